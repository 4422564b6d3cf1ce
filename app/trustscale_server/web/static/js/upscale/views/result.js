// One picture. The reader's question: what of it can I believe? The main action: download it.

import { html, nothing } from "../../lib/html.js";
import { transition } from "../../lib/dom.js";
import { count, duration } from "../../lib/format.js";
import { icon } from "../../lib/icons.js";
import { at } from "../../lib/place.js";
import { button, segments } from "../../lib/widgets.js";
import { share } from "../downloads.js";
import { VIEWS } from "../paint.js";
import { again, cancel, confirm, remove } from "../queue.js";
import { setView, viewer } from "../stage.js";
import { state, store, upscalerOf } from "../state.js";
import { faultOf, hasPromise, mayHelp, reduced, stateWords } from "../words.js";
import { atRest, dock } from "./dock.js";
import { link } from "./strip.js";
import { drawer } from "./drawer.js";
import { whyCard } from "./why.js";

export function picked(picture, state) {
  if (["failed", "cancelled", "expired"].includes(picture.state)) return ended(picture);
  if (picture.state !== "done") return waiting(picture, state);
  return state.shown ? result(state) : opening(picture);
}

/** picture: whose result is fetched; null: nobody knows. */
export function opening(picture) {
  const { early } = state;
  const preview = early ? { url: early } : picture;
  return html`<section class="result" aria-busy="true">
    ${bar(picture?.name ?? "", nothing)}
    <div class="stage">
      ${preview ? making(preview, nothing) : nothing}
      <p class="legend" role="status">${early ? "As the model made it. Looking for doubts …" : "Opening the result …"}</p>
    </div>
  </section>`;
}

/** The upload, as large as the result will be seen, once it is clear that this browser can show it. */
function making({ url }, over) {
  const loaded = ({ target }) => {
    const { naturalWidth: width, naturalHeight: height } = target;
    target.parentElement.style.setProperty("--shape", String(width / height));
    target.parentElement.hidden = false;
  };
  const broken = ({ target }) => (target.parentElement.hidden = true);
  return html`<div class="making" hidden><img src=${url} alt="" @load=${loaded} @error=${broken} />${over}</div>`;
}

const take = async () => (await import("./sheet.js")).openSheet();

const NAMES = { checked: "Checked", marked: "All doubts", original: "Original" };
const UNCHECKED = { original: "Plain", checked: "Not checked" };

/** [view, its name]: of a result without a promise there is no view of doubts. */
export const viewsOf = (result) =>
  hasPromise(result) ? VIEWS.map((one) => [one, NAMES[one]]) : Object.entries(UNCHECKED);

function bar(name, tools) {
  const path = state.pictures.length > 1 ? at("wall") : at();
  return html`<header class="bar">
    ${link(path, icon("back"), { id: "back", label: path === at() ? "Back to the start" : "Back to all pictures" })}
    <h1 id="result-title" tabindex="-1" title=${name}>${name}</h1>
    ${tools}
  </header>`;
}

export function result(now) {
  const { result: found, name } = now.shown;
  const { isDrawer } = now;
  const open = () => store.set({ isDrawer: !isDrawer });
  const tools = html`${segments("View", viewsOf(found), now.view, (view) => transition(() => setView({ view })), { id: "views" })}
    <button type="button" class="quiet" id="open-drawer" aria-expanded=${isDrawer} aria-controls="drawer" aria-label="Promise and details" @click=${open}>
      ${icon("promise")}<span class="wide">Promise</span>
    </button>
    ${button(html`${icon("share")}<span class="wide">Share</span>`, share, { id: "share-link", kind: "quiet", label: "Share" })}
    ${button(html`${icon("download")}<span class="wide">Download</span>`, take, { id: "download", kind: "primary", label: "Download" })}`;
  return html`<section class="result" aria-labelledby="result-title" aria-busy=${now.isOpening}>
    ${bar(name, tools)}
    <div class="stage">
      ${viewer.element}
      ${hasPromise(found) ? nothing : html`<button type="button" class="pill" id="no-promise" @click=${open}>No promise for this picture</button>`}
      ${whyCard(now)} ${dock(now)} ${atRest(found)}
    </div>
    ${drawer(now)}
  </section>`;
}

/** The upload while the model works, which shimmers where nothing is made yet; over it what is made. */
function waiting(picture, { pictures }) {
  const { state, draft, name, progress } = picture;
  const canWake = ["full", "away"].includes(state);
  const stage = progress?.unit === "tiles" ? "As the model makes it" : "The model’s first answer";
  const legend = draft ? `${stage}, not checked yet` : "What shimmers is not made yet";
  return html`<section class="result waiting" id="waiting" aria-label="At work">
    ${bar(
      name,
      button("Cancel", () => cancel(picture), { kind: "quiet" }),
    )}
    <div class="stage">
      <p class="no-view">${icon("picture")} ${name}</p>
      ${making(picture, html`<i class="shimmer" aria-hidden="true"></i>${draft ? html`<img class="draft" src=${draft} alt="" />` : nothing}`)}
      <p class="legend"><span>${legend}</span></p>
      <div class="dock waiting-words">
        <p id="waiting-state" role="status">${stateWords(picture)}</p>
        ${canWake ? button("Try now", () => picture.wake(), { kind: "small" }) : nothing}
        ${state === "asking" ? ways(picture, pictures) : nothing}
      </div>
    </div>
  </section>`;
}

const QUICK_S = 30;

/** A picture that takes long is not sent before the person decides. */
function ways({ plan, ...picture }, pictures) {
  const own = pictures.find(({ id }) => id === picture.id);
  const upscaler = upscalerOf({ ...state, upscaler: picture.settings.upscaler });
  const way = reduced(plan, upscaler?.scale ?? 1, QUICK_S);
  const asked = pictures.filter((one) => one.state === "asking");
  const small = (words, run, title) => button(words, run, { kind: "small", title });
  const shorter = () =>
    small(
      `Reduce it to ${count(way.fit)} px first`,
      () => confirm(own, { fit: String(way.fit) }),
      `Its longest side; the result has ${count(way.side)} px${way.seconds ? ` and takes about ${duration(1000 * way.seconds)}` : ""}. The promise is about that version.`,
    );
  return html`${plan.most ? nothing : small("Send it anyway", () => confirm(own), "You can continue meanwhile.")}
  ${way ? shorter() : nothing}
  ${asked.length > 1 && !asked.some((one) => one.plan.most) ? small(`Send all ${asked.length}`, () => asked.forEach((one) => confirm(one)), "") : nothing}`;
}

function ended(picture) {
  const { state, error, result: before, name } = picture;
  const [title, text] = {
    expired: [
      "The result has expired",
      "The service keeps results for a limited time. Your picture is still here: the same seed gives the same result, as long as the model and its promise are the same.",
    ],
    cancelled: ["Cancelled", "Nothing was kept."],
    failed: ["This picture was not upscaled", error && faultOf(error)],
  }[state];
  const way = (words, settings) => button(words, () => again(picture, settings), { kind: "primary" });
  const onward = () => {
    if (state === "expired") {
      return way("Again with the same seed", { seed: String(before.seed), alpha: String(before.alpha) });
    }
    const fit = /\bfit=(\d+)/.exec(error?.message ?? "")?.[1]; // the way out that the service names
    if (fit) return way(`Reduce it to ${count(fit)} px first`, { fit });
    if (error?.slug === "no-promise") return way("Pay for it all the same", { without_promise: "true" });
    return !error || mayHelp(error) ? way("Try again", {}) : nothing;
  };
  return html`<section class="result">
    ${bar(name, nothing)}
    <div class="stage ended">
      <div class="callout ${state === "failed" ? "bad" : "warn"}" role="alert">
        <strong>${title}</strong>
        <p>${text}</p>
        <div class="button-row">${onward()} ${button("Remove", () => remove([picture]))}</div>
      </div>
    </div>
  </section>`;
}
