// Before and after. The reader's question: is it better for my photographs? The main action: use it, or keep the old one.

import { ADMIN, getBlob, getJson, sendJson } from "../lib/api.js";
import { confirmDialog } from "../lib/dialog.js";
import { documentOf } from "../lib/dom.js";
import { level, percent } from "../lib/format.js";
import { html, nothing, render } from "../lib/html.js";
import { at } from "../lib/place.js";
import { guarded, toastError } from "../lib/toast.js";
import { check, hint } from "../lib/widgets.js";
import { drawBox, masked } from "../upscale/masked.js";
import { isElsewhere } from "./elsewhere.js";
import { GONE } from "./pictures.js";
import * as service from "./service.js";
import { beside, crop, wizard } from "./wizard.js";
import { trustsNothing } from "./words.js";

const MOST = 3; // photographs that are tried
/** Ways of saving that keep the colours, as people most often send them. */
const KINDS = {
  "": "",
  lossless: "saved without loss",
  "jpeg-85": "saved as JPEG 85",
  "jpeg-65": "saved as JPEG 65",
};
const SIDE = 360; // device pixels that a picture is wide
const CAPTION = hint(
  "Each shows the spot that the model has rewritten most. Hatched: don’t rely on it. These photographs helped to make the promise, so they only show what changes.",
);
const ALL = "*"; // the class of a calibration that sorts uploads into none

export async function show(root, query) {
  const [candidate, rows, upscalers] = await Promise.all([
    service.detail(query.get("id")),
    service.listed(),
    service.upscalers(),
  ]);
  const model = upscalers.find(({ name }) => name === candidate.upscaler) ?? {};
  const active = model.calibrations ?? [];
  const others = await Promise.all(
    active.filter(({ id }) => id !== candidate.id).map(({ id }) => service.detail(id)),
  );
  const present = service.activeOf(rows, candidate.upscaler);
  const place = html`<div id="tried"></div>`;
  render(wizard("Before and after", 4, view(candidate, present, others, active, place)), root);
  const tried = root.querySelector("#tried");
  if (!candidate.pictures) return render(GONE, tried);
  try {
    await tryAll(candidate, present, tried, isElsewhere(model));
  } catch (error) {
    toastError(error);
  }
}

function view(candidate, present, others, active, place) {
  const isActive = present?.id === candidate.id;
  const use = (event) => {
    event.preventDefault();
    const { only } = documentOf(event.currentTarget);
    guarded(async () => (await activated(candidate.id, only)) && location.assign(service.page(candidate.id)));
  };
  return html`<p class="lead">
      ${isActive ? html`<b>${service.title(candidate)}</b> answers already.` : html`Nothing is changed yet: <b>${service.title(candidate)}</b> answers only if you use it.`}
    </p>
    ${changed(candidate)} ${trustsNothing(candidate)} ${place} ${coverage(candidate, others, active)}
    <form class="stack" @submit=${use}>
      ${others.length ? check("only", `Only this one: no longer ${others.map(service.title).join(" and ")} after it`) : nothing}
      <div class="button-row onward">
        ${isActive ? nothing : html`<button type="submit" class="primary large">Use it</button>`}
        <a class="button" href=${at("calibrations")}>${isActive ? "Back" : present ? "Keep the old one" : "Not yet"}</a>
        <a class="button quiet" href=${service.page(candidate.id)}>Its figures</a>
      </div>
    </form>`;
}

/** Changes for users; amber where a figure is worse. */
function changed({ upscaler, changes }) {
  const { alpha, trusted_area: area, min_alpha: least, same_pictures: same } = changes;
  if (least.before === null) return html`<p>Until now ${upscaler} has answered no request.</p>`;
  const isWorse = area.after < area.before || least.after > least.before;
  const figure = (name, { before, after }, write) =>
    html`<div><dt>${name}</dt><dd>${write(before)} → <b>${write(after)}</b></dd></div>`;
  return html`<dl class="callout changes ${isWorse ? "warn" : "good"}" id="changes">
    ${figure(`Trusted at an error of ${level(alpha)}`, area, percent)} ${figure("Smallest error", least, level)}
  </dl>
  ${same ? nothing : html`<p class="hint">Each over its own pictures: they judge by different scores.</p>`}`;
}

/** Kinds of upload that are gained, and those that only the others answer. */
export function coverage(next, others, active) {
  const titles = new Map(
    [next, ...others].flatMap(({ classes }) => classes.map((one) => [one.name, one.title])),
  );
  const named = (names) =>
    names.map((name) => (name === ALL ? "any" : (titles.get(name) ?? name))).join("; ");
  const own = next.classes.length ? next.classes.map(({ name }) => name) : [ALL];
  const before = [...new Set(active.filter(({ id }) => id !== next.id).flatMap(({ classes }) => classes))];
  const less = (all, some) => all.filter((one) => !some.includes(one));
  const line = (words, all) => (all.length ? html`<p>${words}: ${named(all)}.</p>` : nothing);
  return html`<details id="coverage">
    <summary>Kinds of upload</summary>
    ${line("Kinds that it adds", less(own, before))} ${line("Kinds that only the others answer, while they stay", less(before, own))}
    ${others.length ? html`<p>It answers first, then ${others.map(service.title).join(", then ")}.</p>` : nothing}
  </details>`;
}

/** Switch; if the service refuses because the new one is worse, the person may insist. False: not done. */
async function activated(id, only) {
  const asked = only ? { only } : {};
  try {
    await sendJson("POST", service.path(id, "activate"), asked);
  } catch (error) {
    if (error.slug !== "conflict") throw error;
    const insists = await confirmDialog({
      title: "The service advises against it",
      body: html`<p class="callout warn">${error.message}</p>`,
      confirm: "Use it anyway",
      danger: true,
    });
    if (!insists) return false;
    await sendJson("POST", service.path(id, "activate"), { ...asked, force: true });
  }
  return true;
}

/** Pairs to try: one photograph of each kind, and more of them where there are few kinds. @param {string[]} names */
export function chosen(names) {
  const parts = names.map((name) => ({ name, source: name.split("~")[0], kind: name.split("~")[1] ?? "" }));
  const present = new Set(parts.map(({ kind }) => kind));
  const plain = Object.keys(KINDS).filter((kind) => present.has(kind));
  const kinds = plain.length ? plain : [...present]; // others may lack colour, or be a part of a page
  const bySource = new Map();
  for (let k = 0; k < MOST; k += 1) {
    const kind = kinds[k % kinds.length];
    const next = parts.find((one) => one.kind === kind && !bySource.has(one.source));
    if (next) bySource.set(next.source, next);
  }
  return [...bySource.values()].map(({ name, source, kind }) => ({
    name,
    words: [source, KINDS[kind]].filter(Boolean).join(" · "),
  }));
}

/** Its own photographs, each in one kind of upload, as they are answered now and as they would be. */
async function tryAll(candidate, present, place, isSupplied) {
  const now = present && present.id !== candidate.id ? [["Now", undefined]] : [];
  const ways = [...now, ["With this one", candidate.id]];
  const examples = chosen((await service.pairs(candidate.id)).map(({ name }) => name)).map(
    ({ name, words }) => ({
      pair: name,
      name: words,
      sides: [...ways.map(([side]) => [null, side, "…"]), [null, "It was"]],
    }),
  );
  const draw = () => render(html`${beside(examples)} ${CAPTION}`, place);
  draw();
  for (const { pair, sides } of examples) {
    const fileOf = (name) => service.path(candidate.id, "pairs", pair, name);
    const [x, y, worst, enlarged] = await Promise.all([
      getBlob(fileOf("x.png"), ADMIN),
      getBlob(fileOf("y.png"), ADMIN),
      getJson(fileOf("worst"), ADMIN),
      isSupplied ? getBlob(fileOf("prediction.png"), ADMIN) : null,
    ]);
    const truth = await createImageBitmap(y);
    const box = worst.badness ? worst.box : [0, 0, truth.width, truth.height];
    sides[ways.length] = [crop(truth, box), "It was"];
    for (const [k, [words, calibration]] of ways.entries()) {
      const { layer, share } = await answered(x, enlarged, candidate.upscaler, calibration);
      const canvas = document.createElement("canvas");
      drawBox(canvas, layer, box, SIDE);
      sides[k] = [canvas, words, `${percent(share, 0)} of the picture can be relied on`];
      draw();
    }
  }
}

/** enlarged: what the program elsewhere made of x; null: the model is asked. */
async function answered(x, enlarged, upscaler, calibration) {
  const form = new FormData();
  form.append("image", x, "x.png");
  if (enlarged) form.append("enlarged", enlarged, "enlarged.png");
  form.append("upscaler", upscaler);
  form.append("seed", "0");
  if (calibration) form.append("calibration", calibration);
  const asked = { method: "POST", body: form, ...ADMIN };
  const { links, trusted_fraction: share } = await getJson(at("v1/upscale"), asked);
  const bitmapAt = async (path) => createImageBitmap(await getBlob(path, ADMIN));
  const [picture, mask] = await Promise.all([bitmapAt(links.image), bitmapAt(links.mask)]);
  return { layer: masked(mask, picture), share };
}
