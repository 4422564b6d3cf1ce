// The picture in the viewer. `scale` is device pixels per pixel of the picture; (x, y) is the device position of its
// upper left corner, in whole numbers, so that edges are sharp.

const MAX_SCALE = 48;

/** The free part of the screen: panels may cover its right and its foot. */
const roomOf = ({ width, height, right = 0, bottom = 0 }) => ({
  width: width - right,
  height: height - bottom,
});

/** The whole picture, or its part `look` [left, top, right, bottom], centred where there is room. */
export function fit(picture, screen) {
  const [left, top, right, bottom] = picture.look ?? [0, 0, picture.width, picture.height];
  const { width, height } = roomOf(screen);
  const scale = Math.min(width / (right - left), height / (bottom - top), MAX_SCALE);
  return placed(scale, picture, screen, (left + right) / 2, (top + bottom) / 2);
}

export function placed(scale, picture, screen, px, py) {
  const { width, height } = roomOf(screen);
  const view = { scale, x: Math.round(width / 2 - px * scale), y: Math.round(height / 2 - py * scale) };
  return kept(view, picture, screen);
}

/** Zoomed by a factor; the picture's point under (dx, dy) stays there. */
export function zoomed(view, factor, picture, screen, dx, dy) {
  const least = Math.min(fit(picture, screen).scale, 1);
  const scale = Math.min(Math.max(view.scale * factor, least), MAX_SCALE);
  const ratio = scale / view.scale;
  const moved = {
    scale,
    x: Math.round(dx - (dx - view.x) * ratio),
    y: Math.round(dy - (dy - view.y) * ratio),
  };
  return kept(moved, picture, screen);
}

export function panned(view, dx, dy, picture, screen) {
  return kept({ ...view, x: Math.round(view.x + dx), y: Math.round(view.y + dy) }, picture, screen);
}

/** A picture smaller than the screen stays centred, a larger one leaves no gap. */
function kept(view, picture, screen) {
  const along = (at, length, room) =>
    length <= room ? Math.round((room - length) / 2) : Math.min(Math.max(at, Math.ceil(room - length)), 0);
  const { width, height } = roomOf(screen);
  return {
    scale: view.scale,
    x: along(view.x, picture.width * view.scale, width),
    y: along(view.y, picture.height * view.scale, height),
  };
}

/** The picture's pixel under a device position, or null beside it. */
export function pixelAt(view, picture, dx, dy) {
  const x = Math.floor((dx + 0.5 - view.x) / view.scale);
  const y = Math.floor((dy + 0.5 - view.y) / view.scale);
  return x >= 0 && y >= 0 && x < picture.width && y < picture.height ? { x, y } : null;
}

/** The part of the screen that the picture covers, as device pixels [x0, x1) × [y0, y1). */
export function covered(view, picture, screen) {
  return {
    x0: Math.max(0, view.x),
    y0: Math.max(0, view.y),
    x1: Math.min(screen.width, Math.ceil(view.x + picture.width * view.scale)),
    y1: Math.min(screen.height, Math.ceil(view.y + picture.height * view.scale)),
  };
}

export const toPicture = (view, { x, y }) => ({ x: (x - view.x) / view.scale, y: (y - view.y) / view.scale });

/** The view of another picture at the same place and relative zoom. */
export function carried(view, from, to, screen) {
  const scale = (view.scale / fit(from, screen).scale) * fit(to, screen).scale;
  const room = roomOf(screen);
  const middle = toPicture(view, { x: room.width / 2, y: room.height / 2 });
  const [px, py] = [(middle.x / from.width) * to.width, (middle.y / from.height) * to.height];
  return placed(Math.min(scale, MAX_SCALE), to, screen, px, py);
}
