// What a client saw of its stream, the same for a browser's EventSource and for one of a library.

import { TYPES } from './publisher.js';

const PUBLISHED_TYPES = TYPES.map((type) => type ?? 'message');

/** Every type that is listened for: what tests publish, what the server says, and `error`, the end of a connection. */
export const ALL_TYPES = [...PUBLISHED_TYPES, 'connected', 'ping', 'caught-up', 'gap', 'shutdown', 'error'];

/** The published events among those that were seen, as `{type, id, data}`. */
export function publishedOf(seen) {
  return seen.filter((event) => PUBLISHED_TYPES.includes(event.type));
}

/** The data of every event of a type that the server sends, parsed. */
export function told(seen, type) {
  return seen.filter((event) => event.type === type).map((event) => JSON.parse(event.data));
}
