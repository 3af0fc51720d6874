// Chromium, driven by playwright-core, and its EventSource in a page of the server's own origin.

import { existsSync } from 'node:fs';

import { chromium } from 'playwright-core';

import { PATIENCE_MS } from './deadline.js';
import { ALL_TYPES } from './recorder.js';

const EXECUTABLE = process.env.DOWNPOUR_CHROMIUM ?? '/usr/bin/chromium';

/** Why the tests that need Chromium cannot run here; false where they can. A full check fails instead of skipping. */
export const CHROMIUM_IS_MISSING =
  !existsSync(EXECUTABLE) && process.env.DOWNPOUR_TEST_STRICT !== '1' && `there is no ${EXECUTABLE}`;

/** Starts a browser with an empty profile of its own, which goes away with it. */
export function launch() {
  return chromium.launch({
    executablePath: EXECUTABLE,
    headless: true,
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

/** An EventSource in a page. */
export class PageStream {
  #page;

  /** Opens a page of the origin `base` for the test `t`, and in it an EventSource that records all it is handed. */
  static async open(t, browser, base, path) {
    const stream = new PageStream();
    stream.#page = await browser.newPage();
    t.after(() => stream.#page.close());
    stream.#page.setDefaultTimeout(PATIENCE_MS);
    await stream.#page.goto(`${base}/healthz`);
    await stream.#page.evaluate(
      ({ path, types }) => {
        window.seen = [];
        window.source = new EventSource(path);
        for (const type of types) {
          window.source.addEventListener(type, (event) => {
            window.seen.push({ type, id: event.lastEventId, data: event.data });
          });
        }
      },
      { path, types: ALL_TYPES },
    );
    return stream;
  }

  /** Resolves once at least `count` events of `type` were seen. */
  async sees(type, count = 1) {
    await this.#page.waitForFunction(
      ({ type, count }) => window.seen.filter((event) => event.type === type).length >= count,
      { type, count },
      { polling: 20 },
    );
  }

  /** Resolves once the last of `expected` was seen. */
  async seesAll(expected) {
    const { type, id } = expected.at(-1);
    await this.#page.waitForFunction(
      ({ type, id }) => window.seen.some((event) => event.type === type && event.id === id),
      { type, id },
      { polling: 20 },
    );
  }

  /** All that was seen so far. */
  seen() {
    return this.#page.evaluate(() => window.seen);
  }

  /** Closes the EventSource, which reconnects no more. */
  async close() {
    await this.#page.evaluate(() => window.source.close());
  }
}
