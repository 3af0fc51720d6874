// A TCP proxy between a client and the server that cuts connections, at places of its choice within the bytes.

import net from 'node:net';

import { Watched, within } from './deadline.js';

export class Cutter {
  /** Heads of the requests that came, each a text. */
  requests = [];
  #cuts = new Watched();
  #listener;
  #pairs = new Set();
  #random;
  #bytesRange = null;

  /** Starts a proxy to the server on `port`, for the test `t`. */
  static async start(t, port, seed) {
    const cutter = new Cutter();
    t.after(() => cutter.#close());
    cutter.#random = generator(seed);
    cutter.#listener = net.createServer((client) => cutter.#join(client, port));
    const listening = new Promise((resolve) => cutter.#listener.listen(0, '127.0.0.1', resolve));
    await within(listening, 'the proxy to listen');
    cutter.base = `http://127.0.0.1:${cutter.#listener.address().port}`;
    return cutter;
  }

  /** How many connections were cut. */
  get cuts() {
    return this.#cuts.items.length;
  }

  /** Resolves once `count` connections were cut. */
  reaches(count) {
    return this.#cuts.until((cuts) => cuts.length >= count, `cut ${count}`);
  }

  /** From now on cuts every connection once it has carried so many more bytes to the client, at random within the range. */
  cutAfter(least, most) {
    this.#bytesRange = [least, most];
    for (const pair of this.#pairs) this.#arm(pair);
  }

  /** From now on cuts no more. */
  spare() {
    this.#bytesRange = null;
    for (const pair of this.#pairs) pair.bytesLeft = Infinity;
  }

  #close() {
    for (const pair of this.#pairs) destroy(pair);
    return new Promise((resolve) => this.#listener.close(resolve));
  }

  #arm(pair) {
    if (!this.#bytesRange) return;
    const [least, most] = this.#bytesRange;
    pair.bytesLeft = Math.floor(least + this.#random() * (most - least));
  }

  #join(client, port) {
    const server = net.connect(port, '127.0.0.1');
    const pair = { client, server, bytesLeft: Infinity };
    this.#pairs.add(pair);
    this.#arm(pair);
    this.#record(client);
    client.on('data', (bytes) => forward(client, server, bytes));
    server.on('data', (bytes) => {
      const passed = bytes.subarray(0, pair.bytesLeft);
      pair.bytesLeft -= bytes.length;
      forward(server, client, passed);
      if (pair.bytesLeft <= 0) this.#cut(pair);
    });
    for (const [socket, other] of [[client, server], [server, client]]) {
      socket.setNoDelay(true);
      socket.on('error', () => destroy(pair)); // A reset is what this proxy is about.
      socket.on('end', () => other.end());
      socket.on('close', () => {
        this.#pairs.delete(pair);
        destroy(pair);
      });
    }
  }

  /** Cuts by turns as a crash looks (a reset) and as an orderly end in the midst of a chunk. */
  #cut(pair) {
    const isReset = this.cuts % 2 === 1;
    pair.server.destroy();
    if (isReset) pair.client.resetAndDestroy();
    else pair.client.end();
    this.#cuts.push(isReset);
  }

  #record(client) {
    let text = '';
    client.on('data', (bytes) => {
      text += bytes.toString('latin1');
      const end = text.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.requests.push(text.slice(0, end));
      text = text.slice(end + 4);
    });
  }
}

function forward(from, to, bytes) {
  if (to.destroyed || to.writableEnded || to.write(bytes)) return;
  from.pause();
  to.once('drain', () => from.resume());
}

function destroy(pair) {
  pair.client.destroy();
  pair.server.destroy();
}

/** A small generator of numbers from 0 up to 1, the same ones for the same seed (mulberry32). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
