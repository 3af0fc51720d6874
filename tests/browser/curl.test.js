// curl as the README shows it, byte by byte.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';

import { Watched } from './lib/deadline.js';
import { Server } from './lib/server.js';

const run = promisify(execFile);

const ID = /^[A-Za-z0-9._~-]{1,40}$/;

describe('curl', () => {
  test('publishes with -d and is answered in JSON', async (t) => {
    const server = await Server.start(t);
    const { stdout } = await run('curl', ['-sS', '-d', 'hello', `${server.base}/channels/quiet`]);
    const answer = JSON.parse(stdout);
    assert.match(answer.id, ID);
    assert.deepEqual(answer, { success: true, id: answer.id, receivers: 0 });
  });

  test('-N shows a published event as it comes', async (t) => {
    const server = await Server.start(t);
    const stream = new CurlStream(t, ['-sSN', `${server.base}/sse?channels=news`]);
    await stream.shows(/^event: connected$/m);
    const publish = ['-sS', '-d', 'hello', `${server.base}/channels/news?event=greeting`];
    const answer = JSON.parse((await run('curl', publish)).stdout);
    assert.equal(answer.receivers, 1);
    await stream.shows(new RegExp(`\n\nevent: greeting\nid: ${answer.id}\ndata: hello\n\n$`));

    const begin = stream.text().split('\n\n', 1)[0].split('\n');
    assert.deepEqual(begin.slice(0, 2), ['retry: 50', 'event: connected']);
    assert.match(begin[2], /^id: \S+$/);
    assert.match(begin[3], /^data: \{"connected":true,"clientId":"[^"]+",/);
  });

  test('resumes with a Last-Event-ID, over HTTP/1.0 too', async (t) => {
    const server = await Server.start(t);
    const published = [];
    for (const text of ['one', 'two', 'three']) {
      const { stdout } = await run('curl', ['-sS', '-d', text, `${server.base}/channels/resumed`]);
      published.push(JSON.parse(stdout).id);
    }
    const expected =
      `id: ${published[1]}\ndata: two\n\nid: ${published[2]}\ndata: three\n\n` +
      'event: caught-up\ndata: {"replayed":2,"complete":true}\n\n';
    for (const version of ['--http1.1', '--http1.0']) {
      const id = ['-H', `Last-Event-ID: ${published[0]}`];
      const stream = new CurlStream(t, ['-sSN', version, ...id, `${server.base}/channels/resumed`]);
      await stream.shows(/^event: caught-up\n.*\n\n/m);
      const [, ...blocks] = stream.text().split('\n\n');
      assert.equal(blocks.join('\n\n'), expected, version);
    }
  });
});

/** What a curl that never ends has printed so far. */
class CurlStream {
  #child;
  #pieces = new Watched();

  constructor(t, args) {
    this.#child = spawn('curl', args, { stdio: ['ignore', 'pipe', 'ignore'] });
    t.after(() => this.#child.kill());
    this.#child.stdout.setEncoding('utf8').on('data', (piece) => this.#pieces.push(piece));
  }

  text() {
    return this.#pieces.items.join('');
  }

  shows(pattern) {
    return this.#pieces.until(() => pattern.test(this.text()), `curl to print ${pattern}`);
  }
}
