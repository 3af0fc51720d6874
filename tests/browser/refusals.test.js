// Real clients are told that their body is too large, although the server says so long before they have sent it.

import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';

import { Server } from './lib/server.js';

const run = promisify(execFile);

const SIZES = [5, 50].map((mebibytes) => mebibytes * 1024 * 1024);

const URLLIB = `
import sys, urllib.request, urllib.error
try:
    urllib.request.urlopen(urllib.request.Request(sys.argv[1], data=b"x" * int(sys.argv[2])))
except urllib.error.HTTPError as error:
    print(error.code)
`;

const HTTP_CLIENT = `
import sys, http.client, urllib.parse
connection = http.client.HTTPConnection(urllib.parse.urlsplit(sys.argv[1]).netloc)
connection.request("POST", urllib.parse.urlsplit(sys.argv[1]).path, body=b"x" * int(sys.argv[2]))
answer = connection.getresponse()
assert b"longer than" in answer.read()
print(answer.status)
`;

const JAVA = `
import java.net.URI;
import java.net.http.*;

public class Post {
  public static void main(String[] arguments) throws Exception {
    var body = HttpRequest.BodyPublishers.ofByteArray(new byte[Integer.parseInt(arguments[1])]);
    var request = HttpRequest.newBuilder(URI.create(arguments[0])).version(HttpClient.Version.HTTP_1_1).POST(body);
    var answer = HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString());
    System.out.println(answer.statusCode());
  }
}
`;

/** Returns why a command cannot be run here, or false. */
function missing(command, ...version) {
  return spawnSync(command, version).status === 0 ? false : `${command} is not installed`;
}

async function printed(command, ...options) {
  return (await run(command, options)).stdout.trim();
}

describe('a body that is too large is answered 413, to', () => {
  for (const size of SIZES) {
    const mebibytes = size / 1024 / 1024;

    test(`fetch of Node, ${mebibytes} MiB`, async (t) => {
      const server = await Server.start(t);
      const answer = await fetch(`${server.base}/channels/a`, { method: 'POST', body: 'x'.repeat(size) });
      assert.equal(answer.status, 413);
      assert.match((await answer.json()).detail, /longer than/);
    });

    for (const [name, program] of [['urllib', URLLIB], ['http.client', HTTP_CLIENT]]) {
      test(`${name} of Python, ${mebibytes} MiB`, { skip: missing('python3', '--version') }, async (t) => {
        const server = await Server.start(t);
        const told = await printed('python3', '-c', program, `${server.base}/channels/a`, String(size));
        assert.equal(told, '413');
      });
    }

    test(`HttpClient of Java, ${mebibytes} MiB`, { skip: missing('javac', '-version') }, async (t) => {
      const server = await Server.start(t);
      const folder = mkdtempSync(join(tmpdir(), 'downpour-'));
      t.after(() => rmSync(folder, { recursive: true }));
      const program = join(folder, 'Post.java');
      writeFileSync(program, JAVA);
      assert.equal(await printed('java', program, `${server.base}/channels/a`, String(size)), '413');
    });

    for (const [name, options] of [['curl', ['-H', 'Expect:']], ['curl that asks first', []]]) {
      test(`${name}, ${mebibytes} MiB`, async (t) => {
        const server = await Server.start(t);
        const folder = mkdtempSync(join(tmpdir(), 'downpour-'));
        t.after(() => rmSync(folder, { recursive: true }));
        const body = join(folder, 'body');
        writeFileSync(body, 'x'.repeat(size));
        const told = ['-sS', '-o', '/dev/null', '-w', '%{http_code}', ...options, '--data-binary', `@${body}`];
        assert.equal(await printed('curl', ...told, `${server.base}/channels/a`), '413');
      });
    }
  }
});
