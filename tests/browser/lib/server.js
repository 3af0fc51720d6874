// A downpour process of a test's own: started on a free port, stopped by its process id.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { within } from './deadline.js';

const BINARY =
  process.env.DOWNPOUR_BINARY ?? fileURLToPath(new URL('../../../target/release/downpour', import.meta.url));

/** What the tests run with: clients come back soon, and a drain is short. */
const OPTIONS = ['--retry', '50ms', '--drain', '1s', '--log-level', 'warn'];

export class Server {
  #child;
  #ended;

  /** Starts a server that outlives the test `t` in no case; `port` 0 takes any free one. Resolves once it serves. */
  static async start(t, port = 0) {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is not there: run cargo build --release first`);
    const server = new Server();
    t.after(() => server.end('SIGKILL'));
    await server.#run(port);
    return server;
  }

  async #run(port) {
    const listen = ['serve', '--listen', `127.0.0.1:${port}`];
    const child = spawn(BINARY, [...listen, ...OPTIONS], {
      stdio: ['ignore', 'inherit', 'pipe'],
      env: withoutOptions(process.env),
    });
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }));
    });
    const listening = new Promise((resolve, reject) => {
      let text = '';
      child.once('error', reject);
      child.stderr.setEncoding('utf8').on('data', (piece) => {
        text += piece;
        const found = /^listening on (\S+):(\d+)/m.exec(text);
        if (found) resolve(Number(found[2]));
      });
      child.once('exit', (code, signal) => {
        reject(new Error(`the server ended before it listened (${code ?? signal}): ${text}`));
      });
    });
    this.port = await within(listening, 'the line "listening on"');
    this.base = `http://127.0.0.1:${this.port}`;
  }

  /** Ends the server by `signal`, unless it has ended before, and resolves with how it ended. */
  end(signal) {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill(signal);
    return within(this.#ended, `the server's end after ${signal}`);
  }

  /** Ends the server as an operator does, which must go well. */
  async drain() {
    assert.deepEqual(await this.end('SIGTERM'), { code: 0, signal: null });
  }
}

/** The environment without options for the server: a test says itself what it needs. */
function withoutOptions(environment) {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith('DOWNPOUR_')));
}
