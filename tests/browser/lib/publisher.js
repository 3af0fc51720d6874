// Publishing as applications do: one request an event, over a connection that is kept.

import http from 'node:http';

/** Types that a test's events have in turn; `undefined` is an event without one. */
export const TYPES = [undefined, 'score', 'price'];

/** How many publish at once in `publishMany`. */
const PUBLISHERS = 4;

export class Publisher {
  #agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  #base;

  constructor(base) {
    this.#base = base;
  }

  /** Publishes an envelope and resolves with the server's answer; anything but 200 rejects. */
  async publish(envelope) {
    const { status, body } = await this.#post('/publish', JSON.stringify(envelope));
    if (status !== 200) throw new Error(`publishing was answered ${status}: ${body}`);
    return JSON.parse(body);
  }

  close() {
    this.#agent.destroy();
  }

  #post(path, body) {
    const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };
    return new Promise((resolve, reject) => {
      const request = http.request(this.#base + path, { method: 'POST', agent: this.#agent, headers });
      request.once('error', reject);
      request.once('response', (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (piece) => (text += piece));
        response.once('error', reject);
        response.once('end', () => resolve({ status: response.statusCode, body: text }));
      });
      request.end(body);
    });
  }
}

/**
 * Publishes `count` events, numbered from `first` on, to `channel` by several publishers at once.
 * Resolves with what a subscriber must see of them: `{type, id, data}` in the order of the sequence.
 */
export async function publishMany(base, channel, count, first = 0) {
  const expected = [];
  let next = first;
  await Promise.all(
    Array.from({ length: PUBLISHERS }, async () => {
      const publisher = new Publisher(base);
      try {
        while (next < first + count) {
          const number = next++;
          const event = TYPES[number % TYPES.length];
          const text = textOf(number);
          const { id } = await publisher.publish({ channel, event, text });
          expected.push({ type: event ?? 'message', id, data: text });
        }
      } finally {
        publisher.close();
      }
    }),
  );
  return inSequence(expected);
}

/** Ids of one epoch have a fixed width, so that their order is that of their texts. */
export function inSequence(events) {
  return events.sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
}

/** Texts of several forms: one line, several, none, and characters of more than one byte. */
function textOf(number) {
  switch (number % 8) {
    case 3:
      return `${number} first line\nsecond: line\n\nfourth`;
    case 5:
      return `${number} größer, 日本, 🦀`;
    case 7:
      return `${number} ${'x'.repeat((number * 89) % 700)}`;
    default:
      return `${number}`;
  }
}
