// Two pictures, one larger. The reader's question: does the large one contradict the small one? The main action: check.

import { getBlob, upload } from "../../lib/api.js";
import { openDialog } from "../../lib/dialog.js";
import { download } from "../../lib/dom.js";
import { html, svg, until } from "../../lib/html.js";
import { at } from "../../lib/place.js";
import { guarded } from "../../lib/toast.js";
import { button } from "../../lib/widgets.js";

const LARGER = 1.5; // times as wide and high, from which on one may be made of the other
const ASPECT = 0.1; // by which their shapes may differ

/** Offer to check two files against each other if one may be made of the other; true: that was done. */
export async function checkedAsPair(files) {
  const sizes = await Promise.all(files.map(sizeOf));
  if (sizes.includes(null)) return false;
  const bySize = files.map((file, k) => ({ file, ...sizes[k] })).sort((a, b) => a.width - b.width);
  const [small, large] = bySize;
  const [across, down] = [large.width / small.width, large.height / small.height];
  if (Math.min(across, down) < LARGER || Math.abs(across / down - 1) > ASPECT) return false;
  const named = ({ file, width, height }) => `${file.name} (${width} × ${height})`;
  const body = html`<p>${named(large)} may be made of ${named(small)}. Nothing is kept of a check.</p>`;
  const actions = [
    { label: "Enlarge both", value: null },
    { label: "Check the large one against the small one", value: true, primary: true },
  ];
  if ((await openDialog({ title: "Was one made of the other?", body, actions })) !== true) return false;
  await show(small, large);
  return true;
}

async function sizeOf(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const { width, height } = bitmap;
    bitmap.close();
    return { width, height };
  } catch {
    return null; // the service may read what the browser cannot
  }
}

async function show(small, large) {
  const url = URL.createObjectURL(large.file);
  const body = html`<div aria-live="polite">
    ${until(told(small, large, url), html`<p class="hint">Comparing them …</p>`)}
  </div>`;
  await openDialog({ title: "What the two pictures say", body, wide: true });
  URL.revokeObjectURL(url);
}

/** Ask about both pictures; in what form: "", "?report=true" or "?card=jpeg". */
function asked(small, large, form, send) {
  const body = new FormData();
  body.append("small", small.file);
  body.append("large", large.file);
  return send(at(`v1/check${form}`), body);
}

async function told(small, large, url) {
  try {
    const findings = await asked(small, large, "", (path, body) =>
      upload(path, body, { onProgress: () => {} }),
    );
    const [first, ...others] = findings.sentences;
    const things = findings.things.filter(({ found_in: where, reads }) => where !== "both" || reads);
    const frames = [...findings.contradictions, ...things];
    return html`<p><strong>${first}</strong></p>
      ${others.map((sentence) => html`<p>${sentence}</p>`)}
      ${frames.length ? marked(findings.contradictions, things, large, url) : ""}
      <div class="button-row">
        ${button("Download a card", () => guarded(() => saved(small, large)), { kind: "small" })}
      </div>`;
  } catch (error) {
    return html`<p class="callout bad" role="alert">${error.message}</p>`;
  }
}

async function saved(small, large) {
  const post = (path, body) => getBlob(path, { method: "POST", body });
  download(
    await asked(small, large, "?card=jpeg", post),
    `${large.file.name.replace(/\.[^.]*$/, "")}.check.jpeg`,
  );
}

/** The large picture with a frame around every place, and a sentence for each; things have thin frames. */
function marked(places, things, { file, width, height }, url) {
  const frame = ({ box: [left, top, right, bottom] }, stroke) =>
    svg`<rect x=${left} y=${top} width=${right - left} height=${bottom - top} fill="none"
        stroke=${stroke} stroke-width="2" vector-effect="non-scaling-stroke" />`;
  return html`<svg viewBox=${`0 0 ${width} ${height}`} width="100%" role="img" aria-label=${`${file.name}, with frames`}>
      <image href=${url} width=${width} height=${height} />
      ${things.map((thing) => frame(thing, "#fff"))} ${places.map((place) => frame(place, "#e0008c"))}
    </svg>
    <ol>
      ${[...places, ...things].map(({ why }) => html`<li>${why}</li>`)}
    </ol>`;
}
