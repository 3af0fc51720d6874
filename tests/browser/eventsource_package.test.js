// The `eventsource` package of npm, an EventSource for Node.js that is not a browser's.

import { test } from 'node:test';

import { EventSource } from 'eventsource';

import { Watched } from './lib/deadline.js';
import { ALL_TYPES } from './lib/recorder.js';
import { resumesUnderCuts } from './lib/resume.js';

class PackageStream {
  #seen = new Watched();
  #source;

  static open(t, base, path) {
    const stream = new PackageStream();
    stream.#source = new EventSource(base + path);
    t.after(() => stream.close());
    for (const type of ALL_TYPES) {
      stream.#source.addEventListener(type, (event) => {
        stream.#seen.push({ type, id: event.lastEventId, data: event.data });
      });
    }
    return stream;
  }

  sees(type) {
    return this.#seen.until((seen) => seen.some((event) => event.type === type), `an event ${type}`);
  }

  seesAll(expected) {
    const { type, id } = expected.at(-1);
    return this.#seen.until(
      (seen) => seen.some((event) => event.type === type && event.id === id),
      `the event with the id ${id}`,
    );
  }

  async seen() {
    return this.#seen.items;
  }

  async close() {
    this.#source.close();
  }
}

test('the eventsource package resumes exactly although its connection is cut again and again', async (t) => {
  await resumesUnderCuts(t, (base) => PackageStream.open(t, base, '/sse?channels=news'), 3);
});
