// A mask that the user paints over an image by touch, mouse, or arrow keys and space.
import { paint } from "./tiles.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Mask {
  // `painted` is called after each stroke.
  constructor(canvas, radius, painted) {
    Object.assign(this, { canvas, radius, painted, hidden: [], at: null });
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.stroke((last = this.place(event)), last);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (last) this.stroke(last, (last = this.place(event)));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => {
        if (last) this.painted();
        last = null;
      });
    }
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.draw((this.at = null)));
  }

  over(image, shape) {
    const [, height, width] = shape;
    Object.assign(this, { image, shape, height, width });
    if (this.hidden.length !== height * width) this.half("lower");
    this.draw();
  }

  // Mask one half of the image, or nothing.
  half(which) {
    const row = (i) => Math.floor(i / this.width);
    const inside = { upper: (i) => row(i) < this.height / 2, lower: (i) => row(i) >= this.height / 2 }[which];
    this.hidden = Array.from({ length: this.height * this.width }, (_, i) => Boolean(inside?.(i)));
    this.draw();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const across = (event.clientX - box.x) / box.width;
    const down = (event.clientY - box.y) / box.height;
    return [across * this.width - 0.5, down * this.height - 0.5];
  }

  // Mask the pixels within the brush's radius of the line from a to b.
  stroke([ax, ay], [bx, by]) {
    const steps = Math.ceil(2 * Math.hypot(bx - ax, by - ay)) || 1;
    const reach = Number(this.radius.value) + 0.5;
    for (let step = 0; step <= steps; step++) {
      const x = ax + ((bx - ax) * step) / steps;
      const y = ay + ((by - ay) * step) / steps;
      this.hidden.forEach((_, i) => {
        if (Math.hypot((i % this.width) - x, Math.floor(i / this.width) - y) <= reach) this.hidden[i] = true;
      });
    }
    this.draw();
  }

  key(event) {
    this.at ??= [Math.floor(this.width / 2), Math.floor(this.height / 2)];
    const [dx, dy] = ARROWS[event.key] ?? [0, 0];
    if (!dx && !dy && event.key !== " ") return;
    event.preventDefault();
    const within = (value, size) => Math.min(Math.max(value, 0), size - 1);
    this.at = [within(this.at[0] + dx, this.width), within(this.at[1] + dy, this.height)];
    if (event.key === " ") {
      this.stroke(this.at, this.at);
      this.painted();
    }
    this.draw();
  }

  draw() {
    if (!this.image) return;
    paint(this.canvas, this.image, this.shape);
    const pen = this.canvas.getContext("2d");
    const { color, outlineColor } = getComputedStyle(this.canvas);
    pen.fillStyle = color;
    this.hidden.forEach((hidden, i) => {
      if (hidden) pen.fillRect(i % this.width, Math.floor(i / this.width), 1, 1);
    });
    pen.fillStyle = outlineColor;
    if (this.at) pen.fillRect(...this.at, 1, 1);
  }
}
