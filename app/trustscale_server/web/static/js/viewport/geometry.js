// The picture in the viewer. `scale` is device pixels per pixel of the picture; (x, y) is the device position of its
// upper left corner, in whole numbers, so that edges are sharp.

const MAX_SCALE = 48;

/** The free part of the screen: bars and panels may cover its edges. */
export function roomOf({ width, height, left = 0, top = 0, right = 0, bottom = 0 }) {
  return { left, top, width: width - left - right, height: height - top - bottom };
}

/** The whole picture, centred in the room. */
export const fit = (picture, screen) =>
  fitted({ left: 0, top: 0, right: picture.width, bottom: picture.height }, picture, screen);

/** A part of the picture, as large as the room allows. */
export function fitted({ left, top, right, bottom }, picture, screen, most = MAX_SCALE) {
  const { width, height } = roomOf(screen);
  const scale = Math.min(width / (right - left), height / (bottom - top), most);
  return placed(scale, picture, screen, (left + right) / 2, (top + bottom) / 2);
}

/** The picture's point (px, py) in the middle of the room. */
export function placed(scale, picture, screen, px, py) {
  const { left, top, width, height } = roomOf(screen);
  const [x, y] = [left + width / 2 - px * scale, top + height / 2 - py * scale];
  return kept({ scale, x: Math.round(x), y: Math.round(y) }, picture, screen);
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

/** A picture smaller than the room stays centred in it, a larger one leaves no gap. */
function kept(view, picture, screen) {
  const along = (at, length, from, room) =>
    length <= room
      ? Math.round(from + (room - length) / 2)
      : Math.min(Math.max(at, Math.ceil(from + room - length)), Math.floor(from));
  const { left, top, width, height } = roomOf(screen);
  return {
    scale: view.scale,
    x: along(view.x, picture.width * view.scale, left, width),
    y: along(view.y, picture.height * view.scale, top, height),
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
  const { left, top, width, height } = roomOf(screen);
  const middle = toPicture(view, { x: left + width / 2, y: top + height / 2 });
  const [px, py] = [(middle.x / from.width) * to.width, (middle.y / from.height) * to.height];
  return placed(Math.min(scale, MAX_SCALE), to, screen, px, py);
}
