// Labels for a semantic calibration: a person marks where the prediction means something else.

import { confirmDialog } from "./lib/dialog.js";
import { announce } from "./lib/dom.js";
import { count } from "./lib/format.js";
import { html, render } from "./lib/html.js";
import { at } from "./lib/place.js";
import { begin, root } from "./lib/shell.js";
import { Store } from "./lib/store.js";
import { guarded, toast, toastError } from "./lib/toast.js";
import { pageHead } from "./lib/widgets.js";
import { jobCard } from "./calibrations/job.js";
import * as service from "./calibrations/service.js";
import { askWhich, desk, listenToKeys, revealCurrent, showKeys } from "./annotate/desk.js";
import { Session } from "./annotate/session.js";
import { Tools } from "./annotate/tools.js";
import { View } from "./annotate/view.js";

const POLL_MS = 5000;

async function show() {
  const id = new URLSearchParams(location.search).get("id");
  if (!id) return choose();
  const calibration = await service.detail(id);
  if (!calibration.job) {
    const link = html`<a href=${service.page(calibration.id)}>${service.title(calibration)}</a>`;
    const words = html`<p>Its labels cannot change any more. ${link}</p>`;
    return render(html`<h1>This calibration is finished</h1>${words}`, root);
  }
  const { job } = calibration;
  document.title = `Labels for ${job.name || job.id} · Trustscale`;
  if (job.state === "awaiting_labels") return work(job);
  const card = jobCard(job, { onEnd: () => location.reload() });
  const head = pageHead(`Labels for ${job.name || job.id}`);
  render(html`${head}<p>Labels are drawn once all predictions are made.</p>${card}`, root);
}

async function choose() {
  const jobs = (await service.pending()).filter((job) => job.needs_label);
  // The card of a failed job stays: it shows the reason.
  const onEnd = ({ state }) => state !== "failed" && show();
  const lead = html`<p class="lead">
    Mark where a prediction means something else than the truth. The marks become a semantic calibration.
  </p>`;
  const none = html`<div class="card empty">
    <p>No calibration waits for labels.</p>
    <p><a href=${at("calibrations?new")}>Start one</a> in which people mark where the meaning differs.</p>
  </div>`;
  const cards = html`<div class="stack">${jobs.map((job) => jobCard(job, { onEnd }))}</div>`;
  render(html`${pageHead("Annotate", { lead })} ${jobs.length ? cards : none}`, root);
}

async function work(job) {
  const session = new Session(
    job.id,
    () => update(),
    () => tools.finish(),
  );
  const busy = { isBusy: false, ended: null };
  const store = new Store({ job, session, zoom: "", place: "", ...busy });
  const onMove = (at) => store.set({ place: at ? `${Math.floor(at.x)}, ${Math.floor(at.y)}` : "" });
  const tools = new Tools({ onStep: stepped, onMove });
  const onZoom = (zoom) => store.set({ zoom: `${Math.round(100 * zoom)} %` });
  const view = new View({ onZoom, onChange: () => store.notify(), hands: tools.hands });
  tools.connect(view);
  const act = {
    open: (name) => guarded(() => open(name)),
    tool: (tool) => tools.set({ tool }),
    size: (size) => tools.set({ size }),
    undo: () => changed("undo"),
    redo: () => changed("redo"),
    clear: () => changed("clear"),
    mode: (mode) => view.setMode(mode),
    marks: () => view.set({ showsMarks: !view.showsMarks }),
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
    render(desk(state, act, view, tools), root);
    if (revealed === session.current?.name) return;
    revealed = session.current?.name;
    revealCurrent(root);
  });

  function update() {
    store.notify();
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

  function changed(how) {
    tools.finish();
    if (session.current?.mask[how]()) stepped();
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
    toast("All pairs have a label. Finish when you are satisfied with them.", { kind: "success" });
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

  /** Whether somebody else has finished or cancelled the job. */
  async function hasEnded() {
    const present = await service.detail(job.id, null, { ask: false });
    if (present.job?.state === "awaiting_labels") return false;
    clearInterval(polling);
    document.removeEventListener("visibilitychange", look);
    const end = present.job?.state === "cancelled" ? "cancelled this calibration" : "finished the labels";
    store.set({ ended: { words: `Somebody has ${end}.`, href: service.page(present.id) } });
    return true;
  }

  /** Poll for the work of others; errors show at the next save. */
  async function look() {
    try {
      if (document.hidden || tools.isDrawing || (await hasEnded())) return;
      await session.refresh({ ask: false });
    } catch {
      // The next poll tries again.
    }
  }

  addEventListener("beforeunload", stay);
  addEventListener("online", () => session.unsaved.forEach((item) => item.save()));
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

begin(show, html`<a href=${at("annotate")}>All that wait for labels</a>`);
