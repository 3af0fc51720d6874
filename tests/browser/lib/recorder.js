// What a client saw of its stream, the same for a browser's EventSource and for one of a library.

import { TYPES } from './publisher.js';

/** Types of events that the server itself sends. */
export const SERVER_TYPES = ['connected', 'ping', 'caught-up', 'gap', 'shutdown'];

/** Every type that is listened for: an EventSource hands over no other. */
export const ALL_TYPES = [...TYPES.map((type) => type ?? 'message'), ...SERVER_TYPES];

/** The published events among those that were seen, as `{type, id, data}`. */
export function publishedOf(seen) {
  return seen.filter((event) => !SERVER_TYPES.includes(event.type));
}

/** The data of every event of a type that the server sends, parsed. */
export function told(seen, type) {
  return seen.filter((event) => event.type === type).map((event) => JSON.parse(event.data));
}
