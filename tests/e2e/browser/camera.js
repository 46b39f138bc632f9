"use strict";

/** A camera drawn on a canvas: a grey of a known level, and a bar that moves over it. */
class CanvasCamera {
  /**
   * @param {number} width
   * @param {number} height
   * @param {number} rate Pictures a second.
   * @param {number} level Luma of the ground, 0 to 255.
   */
  constructor(width, height, rate, level) {
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d");
    this.track = this.canvas.captureStream(0).getVideoTracks()[0];
    this.drawn = 0;
    this.show(width, height, rate, level);
  }

  /** Changes what it shows, from the next picture on. */
  show(width, height, rate, level) {
    clearInterval(this.timer);
    [this.canvas.width, this.canvas.height, this.level] = [width, height, level];
    this.timer = setInterval(() => this.draw(), 1000 / rate);
    this.draw();
  }

  draw() {
    const { width, height } = this.canvas;
    this.context.fillStyle = `rgb(${this.level} ${this.level} ${this.level})`;
    this.context.fillRect(0, 0, width, height);
    this.context.fillStyle = "rgb(200 60 60)";
    this.context.fillRect((this.drawn++ * 8) % width, height / 4, width / 16, height / 4);
    this.track.requestFrame();
  }

  stop() {
    clearInterval(this.timer);
    this.track.stop();
  }
}
