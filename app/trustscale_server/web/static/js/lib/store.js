// State apart from the page: views watch it, and are drawn once for all changes of a task.

/** @template {object} T */
export class Store {
  /** @type {Set<(state: T) => void>} */
  watchers = new Set();
  isSettled = true;

  /** @param {T} state */
  constructor(state) {
    this.state = state;
  }

  /** Change some of the state. @param {Partial<T>} changes */
  set(changes) {
    Object.assign(this.state, changes);
    this.notify();
  }

  /** Something inside of the state has changed. */
  notify() {
    if (!this.isSettled) return;
    this.isSettled = false;
    // Not with the next frame: a page in the background has none.
    queueMicrotask(() => {
      this.isSettled = true;
      for (const run of this.watchers) run(this.state);
    });
  }

  /** Call run(state) now and after every change. @param {(state: T) => void} run */
  watch(run) {
    this.watchers.add(run);
    run(this.state);
  }
}
