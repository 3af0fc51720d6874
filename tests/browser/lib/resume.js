// The promise behind `Last-Event-ID`, for any client that keeps it: connections may end anywhere, events may not.

import assert from 'node:assert/strict';

import { Cutter } from './cutter.js';
import { publishMany } from './publisher.js';
import { publishedOf, told } from './recorder.js';
import { Server } from './server.js';

const EVENTS = 4000;

/** Fewer cuts than this would show little; some 60 are usual. */
const CUTS_LEAST = 10;

/**
 * Publishes while the connection of the stream that `open` opens is cut over and over, at any byte of it. What the
 * stream saw must be what was published: all of it, in order, nothing twice.
 */
export async function resumesUnderCuts(t, open, seed) {
  const server = await Server.start(t);
  const cutter = await Cutter.start(t, server.port, seed);
  const stream = await open(cutter.base);
  await stream.sees('connected');

  cutter.cutAfter(300, 20_000);
  const expected = await publishMany(server.base, 'news', EVENTS);
  // A connection that is cut early makes little way, so the last part of the backlog may take many.
  cutter.spare();
  await stream.seesAll(expected);

  t.diagnostic(`seed ${seed}: ${cutter.cuts} cuts, ${cutter.requests.length} requests`);
  const seen = await stream.seen();
  assert.ok(cutter.cuts >= CUTS_LEAST, `seed ${seed}: only ${cutter.cuts} cuts`);
  assert.deepEqual(publishedOf(seen), expected, `seed ${seed}, ${cutter.cuts} cuts`);
  assert.deepEqual(told(seen, 'gap'), []);
  assert.ok(told(seen, 'caught-up').every(({ complete }) => complete));
  const [first, ...others] = cutter.requests.filter((head) => head.startsWith('GET /sse'));
  assert.doesNotMatch(first, /^last-event-id:/im);
  for (const head of others) assert.match(head, /^last-event-id: \S+$/im);
  await stream.close();
  await server.drain();
}
