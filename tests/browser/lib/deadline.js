// Waiting for conditions, never for time: every wait has a bound and says what it was waiting for.

/** Longest wait of a test for anything, in milliseconds: far above what a loaded machine needs. */
export const PATIENCE_MS = 60_000;

/** Resolves as `promise` does, or rejects once `PATIENCE_MS` have passed. */
export async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${PATIENCE_MS} ms for ${what}`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A list that can be waited on: `until` resolves with what its condition returns, once that is truthy. */
export class Watched {
  items = [];
  #waiters = new Set();

  push(item) {
    this.items.push(item);
    for (const check of this.#waiters) check();
  }

  until(condition, what) {
    return within(
      new Promise((resolve) => {
        const check = () => {
          const result = condition(this.items);
          if (!result) return;
          this.#waiters.delete(check);
          resolve(result);
        };
        this.#waiters.add(check);
        check();
      }),
      what,
    );
  }
}
