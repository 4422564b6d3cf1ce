// The page that upscales: images come in, wait in the queue, and are shown on the stage.

import "./lib/shell.js";
import { getJson } from "./lib/api.js";
import { $, announce, h, replace } from "./lib/dom.js";
import { toast, toastError } from "./lib/toast.js";
import { Intake } from "./upscale/intake.js";
import { Queue } from "./upscale/queue.js";

const queue = new Queue({ onOpen: open, onState: showWaiting });
const intake = new Intake({
  onUpscalers: showOutdated,
  onFiles(files, settings) {
    document.body.classList.add("working");
    queue.add(files, settings);
    stage().catch(toastError); // it is there when the first result is
  },
});

let loading = null;

/** Before the first result there is something to look at: the input, and what is done with it. */
function showWaiting() {
  const item = queue.items.find(({ state }) => state === "busy");
  const waiting = item !== undefined && $("#result").hidden;
  $("#waiting").hidden = !waiting;
  if (!waiting) return;
  const image = $("#waiting-image");
  if (image.src !== item.picture) image.src = item.picture;
  $("#waiting-title").textContent = `The model is asked ${item.samples ?? "several"} times`;
  $("#waiting-state").textContent = `${item.name}: ${item.words.textContent}`;
}

function stage() {
  loading ??= import("./upscale/stage.js").then(({ Stage }) => new Stage({ onUseNext }));
  return loading;
}

function onUseNext(alpha) {
  intake.setAlpha(alpha);
  toast("The next images are upscaled with this α, chosen before you see them.", {
    kind: "success",
  });
}

/** Show an image of the queue, or the result of a link: {result, name, file: null}; null: none. */
async function open(item) {
  if (!item) return close();
  document.body.classList.add("working");
  replace($("#page-notice"));
  $("#waiting").hidden = true;
  try {
    if (!(await (await stage()).open(item))) return;
    document.title = `${item.name} · Trustscale`;
    history.replaceState(null, "", `/r/${item.result.id}`);
    await showOutdated();
  } catch (error) {
    lost(error, item.result.id, () => open(item));
  }
}

/** The result that was shown has been removed, and there is no other. */
async function close() {
  $("#result").hidden = true;
  replace($("#page-notice"));
  document.title = "Upscale · Trustscale";
  history.replaceState(null, "", "/");
  (await stage()).leave();
}

/** A result keeps the promise of its own calibration, whichever is active by now. */
async function showOutdated() {
  const result = loading && (await loading).shown?.result;
  const live = result && intake.upscalers.find(({ name }) => name === result.upscaler);
  const isOld = live?.calibration && live.calibration !== result.calibration;
  replace(
    $("#outdated"),
    isOld &&
      h(
        "p",
        { class: "callout warn" },
        h("strong", {}, "Another calibration is active now"),
        `This result and its promise are of ${result.calibration}; new images are served from ${live.calibration}.`,
      ),
  );
}

/** A result that is gone, or cannot be had now: then the one on the screen stays. */
async function lost(error, id, again) {
  const gone = error.status === 404;
  const shown = loading && (await loading.catch(() => null))?.shown;
  if (!gone) toastError(error);
  $("#result").hidden = gone || !shown;
  replace(
    $("#page-notice"),
    h(
      "div",
      { class: "callout warn result-lost", role: "alert" },
      h("strong", {}, gone ? "The result is gone" : "The result cannot be shown"),
      h(
        "p",
        {},
        gone
          ? "It has expired, or never was: the service keeps results for a limited time only. Upscale the image again; with the same seed and pipeline it gives the same result."
          : error.message,
      ),
      h("p", { class: "hint" }, id),
      !gone && h("button", { type: "button", onclick: again }, "Try again"),
    ),
  );
}

/** The result that the address names: /r/ID or /?result=ID. */
async function openLinked() {
  const id =
    /^\/r\/([\w-]+)$/.exec(location.pathname)?.[1] ??
    new URLSearchParams(location.search).get("result");
  if (!id) return;
  document.body.classList.add("working");
  try {
    const result = await getJson(`/v1/results/${encodeURIComponent(id)}`);
    await open({ result, name: "Shared result", file: null });
    announce("The result is shown.");
  } catch (error) {
    lost(error, id, openLinked);
  }
}

addEventListener("beforeunload", (event) => queue.isBusy && event.preventDefault());
openLinked();
document.documentElement.dataset.ready = "true";
