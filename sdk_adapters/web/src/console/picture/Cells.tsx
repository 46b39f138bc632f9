/** The sessions on an actor as a canvas of cells, for pointers and keyboards. */
import { useEffect, useRef } from "preact/hooks";
import { fitted, onResize } from "../canvas";
import { gridOf, placeAt, step, cornerOf, type Grid } from "../cells";
import { age, percent } from "../format";
import { paint } from "../frames";
import { palette } from "../palette";
import { isDegraded, PHASES, phaseOf } from "../phases";
import { chunks, clock, isChosen, openSession, pool, tenant, words } from "../state";
import { hide, show } from "../tip";
import type { Session } from "../wire";
import { paintCells } from "./paint";

/** For how long a session that was late is marked. */
const LATE_MS = 4000;
/** How often it is looked for. */
const LOOK_MS = 500;
/** Free places that are drawn at most; an actor may have slots for thousands. */
const MOST_ROOM = 256;
/** Rows that a picture is meant to have. */
const ROWS = 6;
/** Frames of cells at the edge need some room. */
const MARGIN = 3;

interface Given {
  readonly actor: string;
  readonly slots: number;
  /** What it shows, in words. */
  readonly label: string;
}

/** Paints only when something on this actor has changed. */
export function Cells({ actor, slots, label }: Given) {
  const box = useRef<HTMLDivElement>(null);
  const picture = useRef<CellPicture>(null);
  useEffect(() => {
    const element = box.current as HTMLDivElement;
    const made = new CellPicture(element, actor);
    picture.current = made;
    const ends = [onResize(element, (width) => made.resize(width)), paint((at) => made.paint(at))];
    return () => ends.forEach((end) => end());
  }, [actor]);
  useEffect(() => picture.current?.room(slots), [slots, actor]);
  return (
    <div
      ref={box}
      class="cells"
      role="application"
      tabIndex={0}
      aria-label={`${label}. Arrow keys choose a session, Enter opens it.`}
      onPointerMove={(event) => picture.current?.point(event)}
      onPointerLeave={() => picture.current?.choose(-1)}
      onClick={(event) => picture.current?.click(event)}
      onKeyDown={(event) => picture.current?.key(event)}
      onBlur={() => picture.current?.choose(-1)}
    >
      <canvas aria-hidden="true" />
    </div>
  );
}

class CellPicture {
  readonly #box: HTMLDivElement;
  readonly #canvas: HTMLCanvasElement;
  readonly #actor: string;
  #width = 0;
  #slots = 0;
  #at = -1;
  #grid: Grid = gridOf(1, 100, 1);
  #painted = "";
  #late: ReadonlySet<string> = new Set();
  #looked = 0;
  #wasLate = 0;

  constructor(box: HTMLDivElement, actor: string) {
    this.#box = box;
    this.#canvas = box.querySelector("canvas") as HTMLCanvasElement;
    this.#actor = actor;
  }

  resize(width: number): void {
    this.#width = width - 2 * MARGIN;
  }

  room(slots: number): void {
    this.#slots = Math.min(slots, MOST_ROOM);
  }

  paint(at: number): void {
    if (this.#width <= 0) return;
    this.#look(at);
    const [places, filter] = [pool.placesOf(this.#actor), `${words.peek()}\n${tenant.peek()}\n${openSession.peek()}`];
    const state = `${pool.touched(this.#actor)} ${palette.peek()} ${this.#width} ${this.#slots} ${this.#at} ${this.#wasLate} ${filter}`;
    if (state === this.#painted) return;
    this.#painted = state;
    const room = Math.max(this.#slots, places.length);
    this.#grid = gridOf(room, this.#width, ROWS);
    const [width, height] = [this.#width + 2 * MARGIN, this.#grid.height + 2 * MARGIN];
    const fit = fitted(this.#canvas, width, height);
    if (fit === null) return;
    if (fit.resized) this.#canvas.style.height = `${height}px`;
    fit.context.clearRect(0, 0, width, height);
    fit.context.translate(MARGIN, MARGIN);
    const shown = { places, room, late: this.#late, at: this.#at, open: openSession.peek(), isChosen };
    paintCells(fit.context, this.#grid, { ...shown, sessions: pool.sessions });
  }

  point(event: PointerEvent): void {
    this.choose(this.#placeOf(event), event.clientX, event.clientY);
  }

  click(event: MouseEvent): void {
    const session = this.#sessionAt(this.#placeOf(event));
    if (session !== undefined) openSession.value = session.id;
  }

  key(event: KeyboardEvent): void {
    const places = pool.placesOf(this.#actor);
    if (event.key === "Enter" || event.key === " ") {
      const session = this.#sessionAt(this.#at);
      if (session === undefined) return;
      event.preventDefault();
      openSession.value = session.id;
      return;
    }
    const place = step(this.#grid, places, this.#at, event.key);
    if (place === null) return;
    event.preventDefault();
    const [x, y] = cornerOf(this.#grid, Math.max(0, place));
    const edge = this.#canvas.getBoundingClientRect();
    this.choose(place, edge.left + x + this.#grid.cell, edge.top + y + this.#grid.cell, true);
  }

  choose(place: number, x = 0, y = 0, aloud = false): void {
    const session = this.#sessionAt(place);
    this.#at = session === undefined ? -1 : place;
    this.#box.classList.toggle("pointing", session !== undefined);
    if (session === undefined) hide();
    else show({ x, y, title: session.id, lines: linesOf(session) }, aloud);
  }

  /** Looks now and then whether sessions here were late. */
  #look(at: number): void {
    if (at - this.#looked < LOOK_MS) return;
    this.#looked = at;
    const late = chunks.late(this.#actor, clock.at(Date.now()) - LATE_MS);
    if (late.size === 0 && this.#late.size === 0) return;
    this.#late = late;
    this.#wasLate = at;
  }

  #placeOf(event: MouseEvent): number {
    const edge = this.#canvas.getBoundingClientRect();
    return placeAt(this.#grid, event.clientX - edge.left - MARGIN, event.clientY - edge.top - MARGIN);
  }

  #sessionAt(place: number): Session | undefined {
    return place < 0 ? undefined : pool.sessions.get(pool.placesOf(this.#actor).at(place) ?? "");
  }
}

/** Says a session in a few lines. */
export function linesOf(session: Session): readonly string[] {
  const lines = [`${PHASES[phaseOf(session)].label}, for ${session.tenant || "no tenant"}`, session.model];
  if (isDegraded(session)) lines.push(qualityOf(session));
  if (session.target !== "") lines.push(`Goes to ${session.target}`);
  lines.push(`Made ${age(Date.now() - session.createdAt)} ago`);
  return lines;
}

/** Says how well a session runs. */
export function qualityOf(session: Session): string {
  const rate = session.rate < 1 ? `${percent(session.rate)} of the frames` : "all frames";
  return session.steps > 0 ? `${rate}, ${session.steps} steps` : rate;
}
