// Chromium's EventSource against a real server: live events, and every way in which a connection ends.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { CHROMIUM_IS_MISSING, PageStream, launch } from './lib/chromium.js';
import { Publisher, inSequence, publishMany } from './lib/publisher.js';
import { publishedOf, told } from './lib/recorder.js';
import { resumesUnderCuts } from './lib/resume.js';
import { Server } from './lib/server.js';

const PATH = '/sse?channels=news';

describe("Chromium's EventSource", { skip: CHROMIUM_IS_MISSING }, () => {
  let browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser?.close());

  test('sees 2000 events of several types, with their ids, in order', async (t) => {
    const server = await Server.start(t);
    const stream = await PageStream.open(t, browser, server.base, PATH);
    await stream.sees('connected');

    const expected = await publishMany(server.base, 'news', 2000);
    await stream.seesAll(expected);

    assert.deepEqual(publishedOf(await stream.seen()), expected);
    const [connected, ...others] = told(await stream.seen(), 'connected');
    assert.equal(others.length, 0, 'one connection was enough');
    assert.equal(connected.connected, true);
    assert.deepEqual(connected.channels, ['news']);
    await stream.close();
    await server.drain();
  });

  test('reconnects to a server that was killed, is told the gap, and misses nothing after it', async (t) => {
    const killed = await Server.start(t);
    const stream = await PageStream.open(t, browser, killed.base, PATH);
    await stream.sees('connected');
    const early = await publishMany(killed.base, 'news', 200);
    await stream.seesAll(early);
    await killed.end('SIGKILL');

    const server = await Server.start(t, killed.port);
    const late = [];
    let isOver = false;
    const publishing = publishUntil(server.base, late, () => isOver);
    await stream.sees('gap');
    const certain = await publishMany(server.base, 'news', 500);
    isOver = true;
    await publishing;
    await stream.seesAll(certain);

    const seen = await stream.seen();
    const gapIndex = seen.findIndex((event) => event.type === 'gap');
    const lastEarlyId = early.at(-1).id;
    assert.deepEqual(told(seen, 'gap'), [{ reason: 'unknown-id', missed: null, lastEventId: lastEarlyId }]);
    assert.notEqual(seen[gapIndex].id, lastEarlyId, 'the gap carries an id that the new server knows');
    assert.equal(told(seen, 'connected').length, 2);
    assert.deepEqual(publishedOf(seen.slice(0, gapIndex)), early);
    // Live from its place at the gap on: a run of what the new server published, without a hole, up to its end.
    const published = inSequence([...late, ...certain]);
    const seenLate = publishedOf(seen.slice(gapIndex));
    assert.ok(seenLate.length >= certain.length);
    assert.deepEqual(seenLate, published.slice(-seenLate.length));
    await stream.close();
    await server.drain();
  });

  test('resumes exactly although its connection is cut again and again during publishing', async (t) => {
    await resumesUnderCuts(t, (base) => PageStream.open(t, browser, base, PATH), 1);
  });

  test('is told of a drain, and reconnects once the server is back', async (t) => {
    const drained = await Server.start(t);
    const stream = await PageStream.open(t, browser, drained.base, PATH);
    await stream.sees('connected');
    const early = await publishMany(drained.base, 'news', 20);
    await stream.seesAll(early);

    await Promise.all([stream.sees('shutdown'), drained.drain()]);

    const server = await Server.start(t, drained.port);
    await stream.sees('gap');
    const late = await publishMany(server.base, 'news', 20);
    await stream.seesAll(late);

    const seen = await stream.seen();
    const types = seen.map((event) => event.type);
    assert.ok(types.indexOf('shutdown') < types.indexOf('error'), 'it is told before its connection ends');
    assert.equal(typeof told(seen, 'shutdown')[0].reason, 'string');
    assert.deepEqual(publishedOf(seen), [...early, ...late]);
    assert.equal(told(seen, 'connected').length, 2, 'a stream that meets the drain is not connected');
    await stream.close();
    await server.drain();
  });
});

/** Publishes one event after the other until `isOver`, and appends what a subscriber sees of each to `published`. */
async function publishUntil(base, published, isOver) {
  const publisher = new Publisher(base);
  try {
    for (let number = 0; !isOver(); number += 1) {
      const text = `meanwhile ${number}`;
      const { id } = await publisher.publish({ channel: 'news', text });
      published.push({ type: 'message', id, data: text });
    }
  } finally {
    publisher.close();
  }
}
