/** The timeline of chunks, one lane a GPU: a canvas for eyes, and a table for everybody else. */
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Icon } from "../../shared/Icon";
import { onResize } from "../canvas";
import { paint } from "../frames";
import { isCalm } from "../palette";
import { actors, chunks, clock, link, openSession } from "../state";
import { COMINGS, heightOf, inWords, lanesOf, type Coming } from "../timeline";
import { hide, show } from "../tip";
import { LaneLabels } from "./LaneLabels";
import { AXIS, nearest, Screen, type Spot } from "./screen";
import { ChunkTable } from "./ChunkTable";

const SPANS = [10, 20, 30] as const;
/** Chunks are told of once a second, and actors tell twice a second: what is shown is so old that all has come. */
const BEHIND_MS = 1800;
const span = signal<number>(20);
const isTable = signal(false);
/** Whether only its tools are there, so that the picture has more room. */
const isFolded = signal(false);
/** The time at the right edge while the timeline is held; null: it moves. */
const held = signal<number | null>(null);

function edge(): number {
  return held.peek() ?? clock.at(Date.now()) - BEHIND_MS;
}

function hold(isHeld: boolean): void {
  held.value = isHeld ? edge() : null;
}

/** With its tools. */
export function Timeline() {
  return (
    <section class={`panel timeline ${isFolded.value ? "folded" : ""}`} aria-label="Timeline of chunks">
      <div class="list-tools">
        <h2>Chunks</h2>
        <Legend />
        <span class="spring" />
        <div class="segments" role="group" aria-label="How much is shown">
          {SPANS.map((seconds) => (
            <button
              key={seconds}
              type="button"
              class="segment"
              aria-pressed={span.value === seconds}
              onClick={() => (span.value = seconds)}
            >
              {seconds} s
            </button>
          ))}
        </div>
        <button
          class="button quiet slim"
          type="button"
          aria-pressed={held.value !== null}
          title="Hold the timeline still (space)"
          onClick={() => hold(held.value === null)}
        >
          <Icon name={held.value === null ? "pause" : "play"} size={16} /> {held.value === null ? "Hold" : "Go on"}
        </button>
        <button class="button quiet slim" type="button" aria-pressed={isTable.value} onClick={() => (isTable.value = !isTable.value)}>
          Table
        </button>
        <button
          class="button quiet icon fold"
          type="button"
          aria-expanded={!isFolded.value}
          aria-label="Show the timeline"
          title={isFolded.value ? "Show the timeline" : "Fold the timeline away"}
          onClick={() => (isFolded.value = !isFolded.value)}
        >
          <Icon name="down" size={18} />
        </button>
      </div>
      {!isFolded.value && <Part />}
    </section>
  );
}

function Part() {
  if (actors.value.length === 0) return <p class="nothing muted">No actor, no chunks.</p>;
  return isTable.value ? <ChunkTable actors={actors.value} seconds={span.value} /> : <Lanes />;
}

function Legend() {
  return (
    <ul class="legend small" aria-label="What the marks mean">
      {(Object.keys(COMINGS) as Coming[]).map((coming) => (
        <li key={coming}>
          <span class={`chunk-mark chunk-${coming}`} aria-hidden="true" /> {COMINGS[coming].label}
        </li>
      ))}
      <li class="muted">Bar: the model at work. Above the line: time left</li>
    </ul>
  );
}

function Lanes() {
  const box = useRef<HTMLDivElement>(null);
  const room = useRef<HTMLDivElement>(null);
  const pane = useRef<Pane>(null);
  useEffect(() => {
    const made = new Pane(room.current as HTMLDivElement, box.current as HTMLDivElement);
    pane.current = made;
    const ends = [
      onResize(room.current as Element, (width) => made.resize(width)),
      onResize(box.current as Element, (_, height) => made.tall(height)),
      paint((at) => made.paint(at)),
    ];
    return () => ends.forEach((end) => end());
  }, []);
  const height = heightOf(lanesOf(actors.value.map(({ id }) => id), tall.value - AXIS));
  return (
    <div ref={box} class="lanes" onScroll={(event) => pane.current?.scroll(event.currentTarget.scrollTop)}>
      <LaneLabels actors={actors.value} room={tall.value - AXIS} height={height} />
      <div class="lanes-room" style={{ height: `${height + AXIS}px` }}>
        <div
          ref={room}
          class="lanes-canvas"
          role="application"
          tabIndex={0}
          aria-label="Timeline of chunks. Left and right choose a chunk, up and down a GPU, M the next late one, Enter opens its session, space holds the timeline."
          onPointerMove={(event) => pane.current?.point(event)}
          onPointerLeave={() => pane.current?.choose(null)}
          onClick={() => pane.current?.open()}
          onKeyDown={(event) => pane.current?.key(event)}
          onBlur={() => pane.current?.choose(null)}
        >
          <canvas aria-hidden="true" />
        </div>
      </div>
    </div>
  );
}

/** Height of what is seen of the lanes. */
const tall = signal(240);

/** Where the pointer and the keyboard are. */
class Pane {
  readonly #room: HTMLDivElement;
  readonly #box: HTMLDivElement;
  readonly #screen: Screen;
  #width = 0;
  #scrolled = 0;
  #spot: Spot | null = null;
  #pointer: { readonly x: number; readonly y: number } | null = null;
  #calm = 0;

  constructor(room: HTMLDivElement, box: HTMLDivElement) {
    this.#room = room;
    this.#box = box;
    this.#screen = new Screen(room.querySelector("canvas") as HTMLCanvasElement);
  }

  resize(width: number): void {
    this.#width = Math.floor(width);
  }

  scroll(top: number): void {
    this.#scrolled = top;
  }

  tall(height: number): void {
    if (height > 0) tall.value = Math.floor(height);
  }

  paint(at: number): void {
    if (this.#width <= 0) return;
    // What moves is asked to move little: once a second.
    const isStill = isCalm.peek() && at - this.#calm < 1000;
    if (!isStill) this.#calm = at;
    const end = isStill || link.peek().is === "away" ? this.#screen.window.end || edge() : edge();
    const lanes = actors.peek().map(({ id }) => id);
    this.#screen.lay(lanes, this.#width, tall.peek(), span.peek() * 1000, this.#scrolled, end);
    this.#screen.paint(chunks, this.#spot);
  }

  point(event: PointerEvent): void {
    const edges = this.#room.getBoundingClientRect();
    this.#pointer = { x: event.clientX, y: event.clientY };
    this.choose(this.#screen.spotAt(chunks, event.clientX - edges.left, event.clientY - edges.top));
  }

  open(): void {
    const session = this.#spot && chunks.tracks.get(this.#spot.actor)?.at(this.#spot.number)?.session;
    if (session) openSession.value = session;
  }

  choose(spot: Spot | null, aloud = false): void {
    const seen = spot && chunks.tracks.get(spot.actor)?.at(spot.number);
    this.#spot = seen ? spot : null;
    this.#room.classList.toggle("pointing", Boolean(seen));
    if (!spot || !seen) return hide();
    const [x, y] = aloud ? this.#placeOf(spot) : [this.#pointer?.x ?? 0, this.#pointer?.y ?? 0];
    show({ x, y, title: seen.session, lines: [inWords(seen), `On ${spot.actor}`] }, aloud);
  }

  key(event: KeyboardEvent): void {
    const act = this.#keys[event.key];
    if (act === undefined) return;
    event.preventDefault();
    act();
  }

  readonly #keys: Readonly<Record<string, () => void>> = {
    ArrowLeft: () => this.#along(-1, () => true),
    ArrowRight: () => this.#along(1, () => true),
    ArrowUp: () => this.#across(-1),
    ArrowDown: () => this.#across(1),
    m: () => this.#nextLate(),
    Enter: () => this.open(),
    " ": () => hold(held.peek() === null),
  };

  #along(by: number, isWanted: (number: number) => boolean): void {
    hold(true);
    const spot = this.#spot ?? this.#newest(this.#screen.lanes[0]?.actor ?? "");
    const track = spot && chunks.tracks.get(spot.actor);
    if (!spot || !track) return;
    if (this.#spot === null) return this.choose(spot, true);
    for (let number = spot.number + by; number >= track.first && number < track.end; number += by) {
      if (isWanted(number)) return this.choose({ actor: spot.actor, number }, true);
    }
  }

  #across(by: number): void {
    hold(true);
    const lanes = this.#screen.lanes;
    const at = lanes.findIndex(({ actor }) => actor === this.#spot?.actor);
    const lane = lanes[at < 0 ? 0 : Math.max(0, Math.min(lanes.length - 1, at + by))];
    const track = lane && chunks.tracks.get(lane.actor);
    if (lane === undefined || track === undefined) return;
    const time = (this.#spot && chunks.tracks.get(this.#spot.actor)?.finishedAt(this.#spot.number)) ?? edge();
    const number = nearest(track, time);
    this.#box.scrollTop = Math.min(lane.top, Math.max(this.#box.scrollTop, lane.top + lane.height + AXIS - tall.peek()));
    if (number !== null) this.choose({ actor: lane.actor, number }, true);
  }

  /** Goes to the next late chunk towards the past, from lane to lane. */
  #nextLate(): void {
    hold(true);
    const lanes = this.#screen.lanes;
    const begin = Math.max(0, lanes.findIndex(({ actor }) => actor === this.#spot?.actor));
    for (let turn = 0; turn < lanes.length; turn += 1) {
      const actor = lanes[(begin + turn) % lanes.length]?.actor ?? "";
      const track = chunks.tracks.get(actor);
      if (track === undefined) continue;
      const isHere = turn === 0 && this.#spot !== null;
      for (let number = isHere && this.#spot ? this.#spot.number - 1 : track.end - 1; number >= track.first; number -= 1) {
        if (track.isLate(number)) return this.choose({ actor, number }, true);
      }
    }
  }

  #newest(actor: string): Spot | null {
    const track = chunks.tracks.get(actor);
    return track === undefined || track.end === track.first ? null : { actor, number: nearest(track, edge()) ?? track.end - 1 };
  }

  #placeOf(spot: Spot): readonly [number, number] {
    const track = chunks.tracks.get(spot.actor);
    const edges = this.#room.getBoundingClientRect();
    if (track === undefined) return [edges.left, edges.top];
    const [x, y] = this.#screen.placeOf(track, spot);
    return [edges.left + x, edges.top + y];
  }
}
