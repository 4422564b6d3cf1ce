// Labels for a semantic calibration: a person marks where the prediction means something else.

import "./lib/shell.js";
import { ApiError } from "./lib/api.js";
import { confirmDialog } from "./lib/dialog.js";
import { $, announce, h, replace } from "./lib/dom.js";
import { count } from "./lib/format.js";
import { toast, toastError } from "./lib/toast.js";
import { jobCard } from "./calibrations/job.js";
import * as service from "./calibrations/service.js";
import { askWhich } from "./annotate/conflict.js";
import { deskOf } from "./annotate/desk.js";
import { listenToKeys, showKeys } from "./annotate/keys.js";
import { Session } from "./annotate/session.js";
import { Tools } from "./annotate/tools.js";
import { View } from "./annotate/view.js";

const POLL_MS = 5000;

async function show() {
  const id = new URLSearchParams(location.search).get("id");
  if (!id) return choose();
  const found = await service.detail(id);
  if (found.id !== id || !found.job)
    return told(found, "This calibration is finished", "Its labels cannot change any more.");
  const { job } = found;
  document.title = `Labels for ${job.name || job.id} · Trustscale`;
  if (job.state === "awaiting_labels") return work(job);
  replace(
    $("#view"),
    h("div", { class: "page-head" }, h("h1", {}, `Labels for ${job.name || job.id}`)),
    h("p", {}, "Labels are drawn once all predictions are made."),
    jobCard(job, { onEnd: () => location.reload() }),
  );
}

/** Without an id in the address: which calibrations wait for labels. */
async function choose() {
  const jobs = (await service.pending()).filter((job) => job.needs_label);
  replace(
    $("#view"),
    h(
      "div",
      { class: "page-head" },
      h(
        "div",
        {},
        h("h1", {}, "Annotate"),
        h(
          "p",
          { class: "lead" },
          "Mark where a prediction means something else than the truth. The marks become a semantic calibration.",
        ),
      ),
    ),
    jobs.length
      ? h(
          "div",
          { class: "stack" },
          // The card of a failed one stays: it says why.
          jobs.map((job) => jobCard(job, { onEnd: ({ state }) => state !== "failed" && show() })),
        )
      : h(
          "div",
          { class: "card empty" },
          h("p", {}, "No calibration waits for labels."),
          h(
            "p",
            {},
            h("a", { href: "/calibrations?new" }, "Start one"),
            " with the fidelity error “Meaning, marked by people”.",
          ),
        ),
  );
}

function told(found, title, text) {
  replace(
    $("#view"),
    h("h1", {}, title),
    h("p", {}, text, " ", h("a", { href: service.page(found.id) }, service.title(found))),
  );
}

/** The desk: pictures, tools, list. */
async function work(job) {
  const session = new Session(
    job.id,
    () => update(),
    () => tools.finish(),
  );
  const desk = deskOf(job, {
    open: (name) => guarded(() => open(name)),
    tool: (name) => pick(name),
    size: (size) => desk.showSize(tools.setSize(size)),
    undo: () => step("undo"),
    redo: () => step("redo"),
    clear: () => {
      tools.finish();
      const { mask } = session.current;
      mask.begin();
      mask.fill(0);
      if (mask.end()) stepped();
    },
    mode: (mode) => setMode(mode),
    swap: () => view.swap(),
    auto: (on) => view.setAuto(on),
    marks: () => toggleMarks(),
    zoom: (factor) => view.zoomBy(factor),
    fit: () => view.fit(),
    previous: () => guarded(() => open(session.neighbour(-1))),
    next: () => guarded(() => open(session.neighbour(1))),
    nothing: () => guarded(nothingDiffers),
    onward: () => guarded(onward),
    finish: () => guarded(finish),
    resolve: () => guarded(() => resolve(session.current)),
    keys: showKeys,
  });
  replace($("#view"), desk.root);
  let lastRefusal = null;
  const view = new View(desk.panes, { onZoom: (zoom) => desk.showZoom(zoom) });
  const tools = new Tools(view, { onStep: stepped, onMove: (at) => desk.showPlace(at) });

  function update() {
    desk.showList(session);
    desk.showState(session.current);
    const refused = session.unsaved.find((item) => item.state === "refused" && item.problem !== lastRefusal);
    if (refused) {
      lastRefusal = refused.problem;
      toastError(refused.problem);
    }
  }

  async function open(name) {
    if (!name || name === session.current?.name) return;
    desk.busy(true);
    try {
      const item = await session.open(name);
      if (!item) return;
      view.show(item);
      desk.showOvertaken(false);
      announce(`${name}, ${item.isLabelled ? "labelled" : "without a label"}`);
    } finally {
      desk.busy(false);
    }
    update();
  }

  function stepped() {
    session.current.changed();
    update();
  }

  function step(direction) {
    tools.finish();
    if (session.current?.mask[direction]()) stepped();
  }

  function pick(name) {
    tools.setTool(name);
    desk.showTool(name);
  }

  function setMode(mode) {
    view.setMode(mode);
    desk.showMode(mode);
  }

  function toggleMarks() {
    view.showsMarks = !view.showsMarks;
    view.draw();
    desk.showMarks(view.showsMarks);
  }

  async function nothingDiffers() {
    const { current } = session;
    if (!current) return;
    tools.finish();
    if (!current.mask.isEmpty) {
      const sure = await confirmDialog({
        title: "Nothing differs?",
        body: h("p", {}, "The marks on this pair are removed. Undo brings them back."),
        confirm: "Remove the marks",
      });
      if (!sure) return;
      current.mask.begin();
      current.mask.fill(0);
      current.mask.end();
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

  async function resolve(item) {
    const theirs = await item.fetchLabel();
    const marks = await askWhich(item, theirs);
    if (marks) await item.resolve(marks, theirs);
    view.draw();
  }

  async function finish() {
    tools.finish();
    const sure = await confirmDialog({
      title: "Finish?",
      body: h(
        "p",
        {},
        `The calibration is made of all ${count(session.rows.length)} labels as they are now. They cannot change afterwards.`,
      ),
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
    const cancelled = found.job?.state === "cancelled";
    desk.showEnded(
      cancelled ? "Somebody has cancelled this calibration." : "Somebody has finished the labels.",
      service.page(found.id),
    );
    return true;
  }

  async function poll() {
    if (document.hidden || tools.isDrawing) return;
    if (await hasEnded()) return;
    await session.refresh({ ask: false });
    if (!session.isOvertaken || tools.isDrawing) return;
    const item = session.current;
    if (!item.isUnsaved) desk.showOvertaken(await item.refresh());
  }

  addEventListener("beforeunload", stay);
  addEventListener("online", () =>
    session.unsaved.forEach((item) => item.state !== "conflict" && item.save()),
  );
  const look = () => poll().catch(() => {}); // the next save tells what is wrong
  const polling = setInterval(look, POLL_MS);
  document.addEventListener("visibilitychange", look);
  listenToKeys({
    b: () => pick("brush"),
    e: () => pick("eraser"),
    l: () => pick("lasso"),
    "[": () => desk.showSize(tools.setSize(tools.size - Math.max(1, tools.size * 0.2))),
    "]": () => desk.showSize(tools.setSize(tools.size + Math.max(1, tools.size * 0.25))),
    z: () => step("undo"),
    redo: () => step("redo"),
    "+": () => view.zoomBy(1.25),
    "=": () => view.zoomBy(1.25),
    "-": () => view.zoomBy(0.8),
    0: () => view.fit(),
    m: toggleMarks,
    f: () => setMode(view.mode === "side" ? "flicker" : "side"),
    " ": () => view.mode === "flicker" && view.swap(),
    x: () => guarded(nothingDiffers),
    n: () => guarded(onward),
    j: () => guarded(() => open(session.neighbour(1))),
    k: () => guarded(() => open(session.neighbour(-1))),
    "?": showKeys,
  });
  pick("brush");
  setMode("side");
  desk.showSize(tools.setSize(24));
  await session.refresh();
  await open(session.nextUnlabelled() ?? session.rows[0]?.name);
}

/** Run an action of a person; what the service has against it is shown. */
async function guarded(action) {
  try {
    await action();
  } catch (error) {
    toastError(error);
  }
}

show().catch((error) => {
  if (!(error instanceof ApiError)) throw error;
  replace(
    $("#view"),
    h("h1", {}, "This did not work"),
    h("p", { class: "callout bad", role: "alert" }, error.message),
    h("p", {}, h("a", { href: "/annotate" }, "All that wait for labels")),
  );
});
