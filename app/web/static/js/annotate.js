// Labels for a semantic calibration: a person marks where the prediction means something else.

import { confirmDialog } from "./lib/dialog.js";
import { announce } from "./lib/dom.js";
import { count } from "./lib/format.js";
import { html, render } from "./lib/html.js";
import { begin, root } from "./lib/shell.js";
import { Store } from "./lib/store.js";
import { guarded, toast, toastError } from "./lib/toast.js";
import { pageHead } from "./lib/widgets.js";
import { jobCard } from "./calibrations/job.js";
import * as service from "./calibrations/service.js";
import { askWhich } from "./annotate/conflict.js";
import { desk, revealCurrent } from "./annotate/desk.js";
import { listenToKeys, showKeys } from "./annotate/keys.js";
import { Session } from "./annotate/session.js";
import { Tools } from "./annotate/tools.js";
import { View } from "./annotate/view.js";

const POLL_MS = 5000;

async function show() {
  const id = new URLSearchParams(location.search).get("id");
  if (!id) return choose();
  const found = await service.detail(id);
  if (found.id !== id || !found.job) {
    render(
      html`<h1>This calibration is finished</h1>
        <p>Its labels cannot change any more. <a href=${service.page(found.id)}>${service.title(found)}</a></p>`,
      root,
    );
    return;
  }
  const { job } = found;
  document.title = `Labels for ${job.name || job.id} · Trustscale`;
  if (job.state === "awaiting_labels") return work(job);
  render(
    html`${pageHead(`Labels for ${job.name || job.id}`)}
      <p>Labels are drawn once all predictions are made.</p>
      ${jobCard(job, { onEnd: () => location.reload() })}`,
    root,
  );
}

/** Without an id in the address: which calibrations wait for labels. */
async function choose() {
  const jobs = (await service.pending()).filter((job) => job.needs_label);
  // The card of a failed one stays: it says why.
  const onEnd = ({ state }) => state !== "failed" && show();
  const lead = html`<p class="lead">
    Mark where a prediction means something else than the truth. The marks become a semantic calibration.
  </p>`;
  render(
    html`${pageHead("Annotate", { lead })}
      ${
        jobs.length
          ? html`<div class="stack">${jobs.map((job) => jobCard(job, { onEnd }))}</div>`
          : html`<div class="card empty">
              <p>No calibration waits for labels.</p>
              <p><a href="/calibrations?new">Start one</a> in which people mark where the meaning differs.</p>
            </div>`
      }`,
    root,
  );
}

/** The desk: pictures, tools, list. */
async function work(job) {
  const session = new Session(
    job.id,
    () => update(),
    () => tools.finish(),
  );
  const store = new Store({
    job,
    session,
    tool: "brush",
    size: 24,
    mode: "side",
    zoom: "",
    place: "",
    isBusy: false,
    isOvertaken: false,
    ended: null,
  });
  const tools = new Tools({
    onStep: stepped,
    onMove: (at) => store.set({ place: at ? `${Math.floor(at.x)}, ${Math.floor(at.y)}` : "" }),
  });
  const view = new View({
    onZoom: (zoom) => store.set({ zoom: `${Math.round(100 * zoom)} %` }),
    onChange: () => store.tell(),
    hands: tools.hands,
  });
  tools.connect(view);
  /** What each control does, and each key. */
  const act = {
    open: (name) => guarded(() => open(name)),
    tool: (tool) => store.set({ tool: tools.setTool(tool) }),
    size: (size) => store.set({ size: tools.setSize(size) }),
    undo: () => travel("undo"),
    redo: () => travel("redo"),
    clear: () => {
      tools.finish();
      if (session.current.mask.clear()) stepped();
    },
    mode: (mode) => {
      view.setMode(mode);
      store.set({ mode });
    },
    marks: () => {
      view.showsMarks = !view.showsMarks;
      view.draw();
      store.tell();
    },
    previous: () => act.open(session.neighbour(-1)),
    next: () => act.open(session.neighbour(1)),
    nothing: () => guarded(nothingDiffers),
    onward: () => guarded(onward),
    finish: () => guarded(finish),
    resolve: () => guarded(resolve),
  };
  let lastRefusal = null;
  let revealed = null;
  store.watch((state) => {
    render(desk(state, act, view), root);
    if (revealed === session.current?.name) return;
    revealed = session.current?.name;
    revealCurrent(root);
  });

  function update() {
    store.tell();
    const refused = session.unsaved.find((item) => item.state === "refused" && item.problem !== lastRefusal);
    if (!refused) return;
    lastRefusal = refused.problem;
    toastError(refused.problem);
  }

  async function open(name) {
    if (!name || name === session.current?.name) return;
    store.set({ isBusy: true });
    try {
      const item = await session.open(name);
      if (!item) return;
      view.show(item);
      store.set({ isOvertaken: false });
      announce(`${name}, ${item.isLabelled ? "labelled" : "without a label"}`);
    } finally {
      store.set({ isBusy: false });
    }
    update();
  }

  function stepped() {
    session.current.changed();
    update();
  }

  function travel(direction) {
    tools.finish();
    if (session.current?.mask[direction]()) stepped();
  }

  async function nothingDiffers() {
    const { current } = session;
    if (!current) return;
    tools.finish();
    if (!current.mask.isEmpty) {
      const sure = await confirmDialog({
        title: "Nothing differs?",
        body: html`<p>The marks on this pair are removed. Undo brings them back.</p>`,
        confirm: "Remove the marks",
      });
      if (!sure) return;
      current.mask.clear();
    }
    await current.confirm();
    if (current.state === "clean") await onward();
  }

  async function onward() {
    const next = session.nextUnlabelled();
    if (next) return open(next);
    await session.current?.save();
    toast("All pairs have a label. Finish when you are content with them.", { kind: "success" });
  }

  async function resolve() {
    const item = session.current;
    const theirs = await item.fetchLabel();
    const marks = await askWhich(item, theirs);
    if (marks) await item.resolve(marks, theirs);
    view.draw();
  }

  async function finish() {
    tools.finish();
    const sure = await confirmDialog({
      title: "Finish?",
      body: html`<p>
        The calibration is made of all ${count(session.rows.length)} labels as they are now. They cannot change afterwards.
      </p>`,
      confirm: "Make the calibration",
    });
    if (!sure) return;
    await session.finish();
    removeEventListener("beforeunload", stay);
    location.href = service.page(job.id);
  }

  function stay(event) {
    if (session.unsaved.length) event.preventDefault();
  }

  /** Somebody else may have finished or cancelled the job; then drawing is in vain. */
  async function hasEnded() {
    const found = await service.detail(job.id, null, { ask: false });
    if (found.job?.state === "awaiting_labels") return false;
    clearInterval(polling);
    document.removeEventListener("visibilitychange", look);
    const end = found.job?.state === "cancelled" ? "cancelled this calibration" : "finished the labels";
    store.set({ ended: { words: `Somebody has ${end}.`, href: service.page(found.id) } });
    return true;
  }

  /** What others do meanwhile; the next save tells what is wrong. */
  async function look() {
    try {
      if (document.hidden || tools.isDrawing || (await hasEnded())) return;
      await session.refresh({ ask: false });
      if (!session.isOvertaken || tools.isDrawing || session.current.isUnsaved) return;
      store.set({ isOvertaken: await session.current.refresh() });
    } catch {
      // Tried again in a moment.
    }
  }

  addEventListener("beforeunload", stay);
  addEventListener("online", () =>
    session.unsaved.forEach((item) => item.state !== "conflict" && item.save()),
  );
  const polling = setInterval(look, POLL_MS);
  document.addEventListener("visibilitychange", look);
  const zoom = (key) => () => view.viewport.key({ key });
  listenToKeys({
    b: () => act.tool("brush"),
    e: () => act.tool("eraser"),
    l: () => act.tool("lasso"),
    "[": () => act.size(tools.size - Math.max(1, tools.size * 0.2)),
    "]": () => act.size(tools.size + Math.max(1, tools.size * 0.25)),
    z: act.undo,
    redo: act.redo,
    "+": zoom("+"),
    "=": zoom("+"),
    "-": zoom("-"),
    0: zoom("0"),
    m: act.marks,
    f: () => act.mode(view.mode === "side" ? "flicker" : "side"),
    " ": () => view.mode === "flicker" && view.swap(),
    x: act.nothing,
    n: act.onward,
    j: act.next,
    k: act.previous,
    "?": showKeys,
  });
  await session.refresh();
  await open(session.nextUnlabelled() ?? session.rows[0]?.name);
}

begin(show, html`<a href="/annotate">All that wait for labels</a>`);
