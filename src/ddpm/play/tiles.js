// Small images on canvases. A shape is [channels, height, width]; pixels are bytes, row by row.
export function paint(canvas, pixels, [channels, height, width]) {
  canvas.width = width;
  canvas.height = height;
  const shown = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) shown.data[4 * i + c] = pixels[i * channels + (channels === 1 ? 0 : c)];
    shown.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(shown, 0, 0);
}

export class Tiles {
  // `chosen` is called with a tile's index when it is selected; without it, tiles cannot be selected.
  constructor(element, chosen = null) {
    this.element = element;
    this.chosen = chosen;
  }

  show(images, shape, name = (i) => `Image ${i + 1}`) {
    const size = shape[0] * shape[1] * shape[2];
    const n = images.length / size;
    if (this.element.children.length !== n) {
      this.element.replaceChildren(...Array.from({ length: n }, (_, i) => this.tile(i)));
    }
    [...this.element.children].forEach((tile, i) => {
      const canvas = tile.querySelector("canvas");
      canvas.setAttribute("aria-label", name(i));
      tile.title = name(i);
      paint(canvas, images.subarray(i * size, (i + 1) * size), shape);
    });
  }

  tile(i) {
    const tile = document.createElement(this.chosen ? "label" : "div");
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    if (this.chosen) {
      const radio = document.createElement("input");
      Object.assign(radio, { type: "radio", name: this.element.id, checked: i === 0 });
      radio.addEventListener("change", () => this.chosen(i));
      tile.append(radio);
    }
    tile.append(canvas);
    return tile;
  }
}
