// State apart from the page: it is changed here, and whoever watches is told once for all changes.

/** @template {object} T */
export class Store {
  /** @type {Set<(state: T) => void>} */
  watchers = new Set();
  isTold = true;

  /** @param {T} state */
  constructor(state) {
    this.state = state;
  }

  /** Change some of the state. @param {Partial<T>} changes */
  set(changes) {
    Object.assign(this.state, changes);
    this.tell();
  }

  /** Something inside of the state has changed. */
  tell() {
    if (!this.isTold) return;
    this.isTold = false;
    // Not with the next frame: a page in the background has none.
    queueMicrotask(() => {
      this.isTold = true;
      for (const run of this.watchers) run(this.state);
    });
  }

  /** Call run(state) now and after every change. @param {(state: T) => void} run */
  watch(run) {
    this.watchers.add(run);
    run(this.state);
  }
}
