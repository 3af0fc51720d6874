// The promise behind `Last-Event-ID`, for any client that keeps it: connections may end anywhere, events may not.

import assert from 'node:assert/strict';

import { Cutter } from './cutter.js';
import { publishMany } from './publisher.js';
import { publishedOf, told } from './recorder.js';
import { Server } from './server.js';

/** Rounds of publishing, each of which ends with a cut at the earliest: so many cuts there are, however slow the machine. */
const ROUNDS = 40;

const EVENTS_PER_ROUND = 150;

/** What a connection carries at most before it is cut. A round has more, so that each has its cut. */
const BYTES_MOST = 6_000;

/**
 * Publishes while the connection of the stream that `open` opens is cut over and over, at any byte of it. What the
 * stream saw must be what was published: all of it, in order, nothing twice.
 */
export async function resumesUnderCuts(t, open, seed) {
  const server = await Server.start(t);
  const cutter = await Cutter.start(t, server.port, seed);
  const stream = await open(cutter.base);
  await stream.sees('connected');

  cutter.cutAfter(300, BYTES_MOST);
  const expected = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const events = await publishMany(server.base, 'news', EVENTS_PER_ROUND, round * EVENTS_PER_ROUND);
    assert.ok(textBytes(events) > BYTES_MOST, `a round is more than one connection carries: ${textBytes(events)}`);
    expected.push(...events);
    await cutter.reaches(round + 1);
  }
  // A connection that is cut early makes little way, so the last part of the backlog may take many.
  cutter.spare();
  await stream.seesAll(expected);

  t.diagnostic(`seed ${seed}: ${cutter.cuts} cuts, ${cutter.requests.length} requests`);
  const seen = await stream.seen();
  assert.deepEqual(publishedOf(seen), expected, `seed ${seed}, ${cutter.cuts} cuts`);
  assert.deepEqual(told(seen, 'gap'), []);
  assert.ok(told(seen, 'caught-up').every(({ complete }) => complete));
  const [first, ...others] = cutter.requests.filter((head) => head.startsWith('GET /sse'));
  assert.doesNotMatch(first, /^last-event-id:/im);
  for (const head of others) assert.match(head, /^last-event-id: \S+$/im);
  await stream.close();
  await server.drain();
}

/** The least that events take on the wire: their ids and data. */
function textBytes(events) {
  return events.reduce((sum, { id, data }) => sum + id.length + Buffer.byteLength(data), 0);
}
