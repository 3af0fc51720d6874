// A server as the documentation of better-sse shows it: `GET /channels/{channel}` is a stream, `POST` there broadcasts
// its body. It says where it listens on standard error.
import { createServer } from 'node:http';
import { createChannel, createSession } from 'better-sse';

const channels = new Map();

function channelOf(name) {
  if (!channels.has(name)) channels.set(name, createChannel());
  return channels.get(name);
}

const server = createServer(async (request, response) => {
  const channel = channelOf(request.url);
  if (request.method === 'GET') {
    channel.register(await createSession(request, response));
    return;
  }
  request.setEncoding('utf8');
  let body = '';
  for await (const part of request) body += part;
  channel.broadcast(body);
  response.end();
});

server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
  const { address, port } = server.address();
  console.error(`listening on ${address}:${port}`);
});
