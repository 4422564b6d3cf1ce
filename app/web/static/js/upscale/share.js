// A result as one HTML file that needs no service.

/** @returns {Promise<string>} */
const dataUrl = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

/** parts: blobs {input (or null), image, marked}; words: {name, trusted, sentence, origin}; (width, height) of the result. */
export async function shared(parts, { name, trusted, sentence, origin }, { width, height }) {
  const entries = Object.entries(parts).filter(([, blob]) => blob);
  const found = await Promise.all(entries.map(async ([part, blob]) => [part, await dataUrl(blob)]));
  const picture = ([part, url]) => `<img class="${part}" src="${url}" alt="${part}">`;
  const divider = parts.input
    ? `<input id="share" type="range" value="50" step="any" aria-label="Share of the view that shows the input">`
    : "";
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escaped(name)}</title>
<style>
body { margin: 0; background: #14171b; color: #eceae5; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: min(100%, calc(80vh * ${width / height})); margin: auto; padding: 8px; }
figure { position: relative; margin: 0; aspect-ratio: ${width} / ${height}; overflow: hidden; --share: 50%; }
img { position: absolute; inset: 0; width: 100%; height: 100%; }
.input { clip-path: inset(0 calc(100% - var(--share)) 0 0); z-index: 1; }
figure:not(.marked) .marked { visibility: hidden; }
input[type="range"] { width: 100%; }
</style>
<main><h1>${escaped(name)}</h1>
<figure class="marked">${found.map(picture).join("")}</figure>
${divider}
<p><label><input id="marks" type="checkbox" checked> show what is not trusted</label></p>
<p><b>${escaped(trusted)}</b> ${escaped(sentence)}</p><p><small>${escaped(origin)}</small></p></main>
<script>
const figure = document.querySelector("figure");
document.querySelector("#marks").oninput = ({ target }) => figure.classList.toggle("marked", target.checked);
const share = document.querySelector("#share");
if (share) share.oninput = () => figure.style.setProperty("--share", share.value + "%");
</script></html>`;
}
