// Two pictures, one larger. The reader's question: does the large one contradict the small one? The main action: check.

import { upload } from "../../lib/api.js";
import { openDialog } from "../../lib/dialog.js";
import { html, svg, until } from "../../lib/html.js";
import { at } from "../../lib/place.js";

const LARGER = 1.5; // times as wide and high, from which on one may be made of the other
const ASPECT = 0.1; // by which their shapes may differ

/** Offer to check two files against each other if one may be made of the other; true: that was done. */
export async function checkedAsPair(files) {
  const sizes = await Promise.all(files.map(sizeOf));
  if (sizes.includes(null)) return false;
  const found = files.map((file, k) => ({ file, ...sizes[k] })).sort((one, other) => one.width - other.width);
  const [small, large] = found;
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

async function told(small, large, url) {
  const form = new FormData();
  form.append("small", small.file);
  form.append("large", large.file);
  try {
    const found = await upload(at("v1/check"), form, { onProgress: () => {} });
    const [first, ...others] = found.sentences;
    return html`<p><strong>${first}</strong></p>
      ${others.map((sentence) => html`<p>${sentence}</p>`)}
      ${found.contradictions.length ? marked(found.contradictions, large, url) : ""}`;
  } catch (error) {
    return html`<p class="callout bad" role="alert">${error.message}</p>`;
  }
}

/** The large picture with a frame around every place, and a sentence for each. */
function marked(places, { file, width, height }, url) {
  const frames = places.map(
    ({ box: [left, top, right, bottom] }) =>
      svg`<rect x=${left} y=${top} width=${right - left} height=${bottom - top} fill="none"
        stroke="#e0008c" stroke-width="2" vector-effect="non-scaling-stroke" />`,
  );
  return html`<svg viewBox=${`0 0 ${width} ${height}`} width="100%" role="img" aria-label=${`${file.name}, with frames`}>
      <image href=${url} width=${width} height=${height} />
      ${frames}
    </svg>
    <ol>
      ${places.map(({ why }) => html`<li>${why}</li>`)}
    </ol>`;
}
