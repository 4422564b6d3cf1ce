// The marking of paint.js on a graphics card: one fragment shader, to which zoom, place, α and view are numbers.

import { FAINT } from "./doubts.js";
import { REACH, SIGMA, SLOPE, STEP, STYLE, areaOf, gridOf, inkFor } from "./paint.js";

const MOST_PIXELS = 40_000_000; // of a picture: what is larger is drawn from its parts in view, by the other painter

const SOFTWARE = /SwiftShader|llvmpipe|software/i; // draws on the processor, where the other painter is quicker

const colour = ([r, g, b, a]) =>
  `vec4(${[r / 255, g / 255, b / 255, a].map((one) => one.toFixed(4)).join(", ")})`;
const number = (value) => value.toFixed(3);

const VERTEX = `#version 300 es
void main() { gl_Position = vec4(vec2[](vec2(-1, -1), vec2(3, -1), vec2(-1, 3))[gl_VertexID], 0, 1); }`;

const FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform sampler2D made, soft, ink; // ink: how strongly doubts are drawn
uniform usampler2D grid;
uniform vec3 view; // scale, and the place of the picture
uniform vec2 size, inked; // of the picture; of what the ink covers, in its pixels
uniform float height; // of the canvas
uniform float density, cell; // device pixels of a CSS pixel; picture pixels of a cell
uniform ivec2 cells; // of the grid
uniform int limit, mode; // mode: 0 plain, 1 marked, 2 original
uniform bool isExact, isCrisp;
out vec4 seen;

bool doubted(ivec2 at) {
  return int(texelFetch(grid, clamp(at, ivec2(0), cells - 1), 0).r) > limit;
}

vec4 over(vec4 under, vec4 top) { return vec4(mix(under.rgb, top.rgb, top.a), under.a); }

vec4 thinned(vec4 paint, float part) { return vec4(paint.rgb, paint.a * part); }

vec4 faded(vec4 paint, float inside) { return thinned(paint, clamp(inside + .5, 0., 1.)); }

/** How far inside of a mark a place of the grid is, 0 to 1: a bell curve over the cells around. */
float smoothed(vec2 at) {
  ivec2 k = ivec2(floor(at));
  vec2 t = at - floor(at), sum = vec2(0);
  for (int j = -${REACH}; j <= ${REACH}; j++) {
    float y = float(j) + .5 - t.y, wide = exp(-y * y / ${number(2 * SIGMA ** 2)});
    for (int i = -${REACH}; i <= ${REACH}; i++) {
      float x = float(i) + .5 - t.x, weight = wide * exp(-x * x / ${number(2 * SIGMA ** 2)});
      sum += vec2(doubted(k + ivec2(i, j)) ? weight : 0., weight);
    }
  }
  return sum.x / sum.y;
}

/** The distance to the border inside a cell that is not trusted, in device pixels. */
float border(vec2 at) {
  ivec2 k = ivec2(floor(at));
  vec2 near = (at - floor(at)) * cell * view.x, far = cell * view.x - near;
  float found = 1e6;
  if (!doubted(k - ivec2(1, 0))) found = min(found, near.x);
  if (!doubted(k + ivec2(1, 0))) found = min(found, far.x);
  if (!doubted(k - ivec2(0, 1))) found = min(found, near.y);
  if (!doubted(k + ivec2(0, 1))) found = min(found, far.y);
  return found;
}

void main() {
  vec2 place = vec2(gl_FragCoord.x, height - gl_FragCoord.y) - view.yz;
  vec2 pixel = place / view.x;
  vec4 paint = mode == 2 ? texture(soft, pixel / size)
    : isCrisp ? texelFetch(made, clamp(ivec2(pixel), ivec2(0), ivec2(size) - 1), 0)
    : texture(made, pixel / size);
  bool isClear = paint.a < .999;
  if (mode == 1 && !isClear) {
    vec2 at = pixel / cell;
    float f = isExact ? (doubted(ivec2(floor(at))) ? 1. : 0.) : smoothed(at);
    float part = max(texture(ink, pixel / inked).r, isExact ? ${number(FAINT)} : 0.);
    if (f > 0.) {
      float inside = (isExact ? border(at) : f > .999 ? 1e6 : (f - .5) * cell * view.x / ${number(SLOPE)}) / density;
      if (inside > ${number(STYLE.half)}) {
        // In whole pixels, as the other painter's.
        float along = mod(floor(place.x) + floor(place.y), round(${number(STEP)} * density));
        float wide = max(1., round(${number(STYLE.stripeWidth)} * density));
        if (along < wide) paint = over(paint, thinned(${colour(STYLE.stripe)}, part));
        else if (along < 2. * wide) paint = over(paint, thinned(${colour(STYLE.shade)}, part));
      }
      float line = ${number(STYLE.half)} - (isExact ? inside : abs(inside));
      paint = over(paint, faded(thinned(${colour(STYLE.line)}, sqrt(part)), line));
    }
  }
  if (isClear) {
    ivec2 square = ivec2(floor(place / ${number(STYLE.square)}));
    float grey = ((square.x + square.y) & 1) == 0 ? ${number(STYLE.board[0] / 255)} : ${number(STYLE.board[1] / 255)};
    paint = vec4(paint.rgb + grey * (1. - paint.a), 1.);
  }
  seen = vec4(paint.rgb, 1.);
}`;

const FULL = { width: 1, height: 1, cell: 1, data: Uint8Array.of(255) };

const MODES = ["plain", "marked", "original"];

export class GlPainter {
  /** Textures by what they show. @type {Map<object, WebGLTexture>} */
  textures = new Map();

  /** Throws where the browser has no graphics card for us. @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    const wanted = { alpha: true, antialias: false, depth: false, failIfMajorPerformanceCaveat: true };
    const gl = /** @type {WebGL2RenderingContext | null} */ (canvas.getContext("webgl2", wanted));
    if (!gl) throw new Error("no WebGL 2");
    const names = gl.getExtension("WEBGL_debug_renderer_info");
    const name = names ? gl.getParameter(names.UNMASKED_RENDERER_WEBGL) : "";
    if (SOFTWARE.test(name)) throw new Error("no graphics card");
    this.gl = gl;
    this.begin();
    // The browser may take the card away and give it back.
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.textures.clear();
      this.begin();
      if (this.last) this.draw(this.last);
    });
  }

  begin() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, text] of /** @type {const} */ ([
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, FRAGMENT],
    ])) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost())
      throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    const names = ["made", "soft", "grid", "ink", "view", "size", "inked", "height", "density", "cell"];
    const all = [...names, "cells", "limit", "mode", "isExact", "isCrisp"];
    this.at = Object.fromEntries(all.map((name) => [name, gl.getUniformLocation(program, name)]));
    ["made", "soft", "grid", "ink"].forEach((name, unit) => gl.uniform1i(this.at[name], unit));
    gl.enable(gl.SCISSOR_TEST);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    this.most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
  }

  /** @param {import("./paint.js").Layer} layer */
  canDraw = ({ width, height }) => Math.max(width, height) <= this.most && width * height <= MOST_PIXELS;

  /** @param {import("./paint.js").Scene} scene */
  draw(scene) {
    const { gl } = this;
    this.last = scene;
    const { width, height } = scene.screen;
    if (gl.canvas.width !== width || gl.canvas.height !== height) Object.assign(gl.canvas, { width, height });
    gl.viewport(0, 0, width, height);
    gl.scissor(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    this.forget(scene);
    for (const part of scene.parts) {
      const area = areaOf(scene, part);
      if (area) this.paint(scene, part, area);
    }
  }

  paint({ view, screen, density }, { layer, mode }, area) {
    const { gl, at } = this;
    const grid = gridOf(layer, view, density);
    const isDrawn = mode === "marked" || (mode === "original" && layer.soft);
    this.bindPicture(0, layer.pictures[0]);
    this.bindPicture(1, layer.soft ?? layer.pictures[0]);
    this.bindGrid(grid);
    const ink = inkFor(layer) ?? FULL;
    this.bindInk(ink);
    gl.uniform2f(at.inked, ink.width * ink.cell, ink.height * ink.cell);
    gl.uniform3f(at.view, view.scale, view.x, view.y);
    gl.uniform2f(at.size, layer.width, layer.height);
    gl.uniform1f(at.height, screen.height);
    gl.uniform1f(at.density, density);
    gl.uniform1f(at.cell, grid.cell);
    gl.uniform2i(at.cells, grid.width, grid.height);
    gl.uniform1i(at.limit, layer.limit);
    gl.uniform1i(at.mode, MODES.indexOf(isDrawn ? mode : "plain"));
    gl.uniform1i(at.isExact, Number(Boolean(grid.isExact)));
    gl.uniform1i(at.isCrisp, Number(view.scale >= 3 * density));
    gl.scissor(area.x0, screen.height - area.y1, area.x1 - area.x0, area.y1 - area.y0);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  bindPicture(unit, bitmap) {
    const { gl } = this;
    this.bind(unit, bitmap, gl.LINEAR_MIPMAP_LINEAR, gl.LINEAR, () => {
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
      gl.generateMipmap(gl.TEXTURE_2D);
    });
  }

  bindGrid({ width, height, data }) {
    const { gl } = this;
    this.bind(2, data, gl.NEAREST, gl.NEAREST, () =>
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.R16UI, width, height, 0, gl.RED_INTEGER, gl.UNSIGNED_SHORT, data),
    );
  }

  bindInk({ width, height, data }) {
    const { gl } = this;
    this.bind(3, data, gl.LINEAR, gl.LINEAR, () =>
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8, width, height, 0, gl.RED, gl.UNSIGNED_BYTE, data),
    );
  }

  /** Bind the texture of a source; the first time it is made, which `fill` does. */
  bind(unit, of, least, most, fill) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + unit);
    if (this.textures.has(of)) return gl.bindTexture(gl.TEXTURE_2D, this.textures.get(of));
    const texture = gl.createTexture();
    this.textures.set(of, texture);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    fill();
    for (const [name, value] of [
      [gl.TEXTURE_MIN_FILTER, least],
      [gl.TEXTURE_MAG_FILTER, most],
      [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE],
      [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE],
    ])
      gl.texParameteri(gl.TEXTURE_2D, name, value);
  }

  /** Give back the textures of results that are no longer shown. */
  forget({ parts }) {
    const grids = (layer) => [layer.codes, ...layer.marks, inkFor(layer) ?? FULL].map(({ data }) => data);
    const inUse = new Set(parts.flatMap(({ layer }) => [layer.pictures[0], layer.soft, ...grids(layer)]));
    for (const [of, texture] of this.textures) {
      if (inUse.has(/** @type {any} */ (of))) continue;
      this.gl.deleteTexture(texture);
      this.textures.delete(of);
    }
  }
}
