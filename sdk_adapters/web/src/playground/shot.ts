/** One session as the page sees it: signals of what the client tells. */
import { computed, signal } from "@preact/signals";
import {
  CommandRejected,
  SanaStreamingModel,
  type ConnectOptions,
  type ConnectionStats,
  type FileRef,
  type QueuePlace,
  type SanaError,
  type State,
  type Status,
  type ViewerStats,
} from "@sana-gateway/client";
import { ask, token } from "../shared/credentials";
import { report, reportError } from "../shared/problems";
import { added, line, snake, type Entry } from "./log";

/** How often the connection is looked at. */
const LOOK_MS = 1_000;
/** Looks that are kept: two minutes. */
const MOST_LOOKS = 120;

/** A look at the connection. */
export interface Look {
  readonly glassToGlassMs: number | null;
  readonly promptToPixelsMs: number | null;
  readonly fps: number | null;
}

/** See above. */
export class Shot {
  readonly model = new SanaStreamingModel();
  readonly status = signal<Status>("disconnected");
  readonly state = signal<State | null>(null);
  readonly queue = signal<QueuePlace | null>(null);
  readonly entries = signal<readonly Entry[]>([]);
  readonly stats = signal<ConnectionStats | null>(null);
  readonly looks = signal<readonly Look[]>([]);
  readonly viewer = signal<ViewerStats | null>(null);
  /** Commands that were not answered yet. */
  readonly waiting = signal(0);
  /** A picture came since the last reset. */
  readonly shown = signal(false);
  readonly connected = computed(() => this.status.value === "ready" || this.status.value === "reconnecting");
  #timer = 0;
  /** The run that was reset last. */
  #over: number | null = null;

  constructor() {
    const { model } = this;
    model.on("statusChanged", (status) => this.#moved(status));
    // The last one may come after the end.
    model.on("stateChanged", (state) => this.status.value !== "disconnected" && (this.state.value = state));
    model.on("queueChanged", (place) => (this.queue.value = place));
    model.on("viewerStats", (told) => (this.viewer.value = told));
    model.on("generationReset", () => {
      this.shown.value = false;
      this.#over = this.viewer.value?.run ?? null;
    });
    model.on("message", ({ name, data, replayed }) => {
      if (name !== "state" && !replayed) this.note("service", snake(name), line(data), name === "commandError");
    });
    // Some come late: what `start` waited for in vain.
    model.on("commandError", (error) => reportError(new CommandRejected(error)));
    model.on("gap", () => this.note("connection", "gap", "some messages were missed; the state makes up for them"));
    model.on("error", (error) => this.#failed(error));
    model.on("ended", (reason) => {
      this.note("connection", "ended", reason, true);
      report({ title: `The session has ended: ${reason}`, advice: "Press Start to begin another." });
    });
  }

  /** Connects; asks for a token where the service wants one. */
  async connect(options: ConnectOptions): Promise<void> {
    for (;;) {
      const shown = token.value;
      try {
        return await this.model.connect({ ...options, getToken: () => token.value });
      } catch (error) {
        if ((error as SanaError).code !== "unauthenticated") throw error;
        if (shown === token.value) await ask(shown ? "The token was refused or has expired." : undefined);
      }
    }
  }

  /** Gives a command, and tells of it in the log. */
  async command<Answer>(name: string, said: object, give: () => Promise<Answer>): Promise<Answer> {
    this.note("page", name, line(said));
    this.waiting.value += 1;
    try {
      return await give();
    } finally {
      this.waiting.value -= 1;
    }
  }

  setMode(mode: "live" | "file") {
    return this.command("set_mode", { mode }, () => this.model.setMode(mode));
  }

  setVideo(video: FileRef) {
    return this.command("set_video", { name: video.name }, () => this.model.setVideo(video));
  }

  setPrompt(prompt: string, transitionChunks: number) {
    const options = transitionChunks > 0 ? { transitionChunks } : {};
    return this.command("set_prompt", { prompt, ...options }, () => this.model.setPrompt(prompt, options));
  }

  setSeed(seed: number) {
    return this.command("set_seed", { seed }, () => this.model.setSeed(seed));
  }

  run(name: "start" | "pause" | "resume" | "reset") {
    return this.command(name, {}, (): Promise<unknown> => this.model[name]());
  }

  /** A picture came onto the screen. */
  pictureCame(): void {
    // What comes after a reset was under way before it, and the last picture of a run is repeated.
    const isOld = this.#over !== null && (this.viewer.value?.run ?? this.#over) <= this.#over;
    if (this.state.value?.started && !isOld) this.shown.value = true;
  }

  /** Puts something into the log. */
  note(from: Entry["from"], name: string, text: string, failed = false): void {
    this.entries.value = added(this.entries.value, { at: Date.now(), from, name, text, failed });
  }

  /** Ends the session. */
  async close(): Promise<void> {
    await this.model.disconnect();
  }

  #failed(error: SanaError): void {
    this.note("connection", error.code, error.message, true);
    reportError(error);
  }

  #moved(status: Status): void {
    this.status.value = status;
    this.note("connection", "status", status);
    clearInterval(this.#timer);
    if (status === "ready") this.#timer = window.setInterval(() => void this.#look(), LOOK_MS);
    if (status !== "disconnected") return;
    this.state.value = this.stats.value = this.viewer.value = null;
    this.looks.value = [];
    this.shown.value = false;
    this.#over = null;
  }

  async #look(): Promise<void> {
    const stats = await this.model.stats();
    if (this.status.value === "disconnected") return;
    this.stats.value = stats;
    const running = this.state.value?.running ?? false;
    const look: Look = {
      glassToGlassMs: running ? stats.glassToGlassMs : null,
      promptToPixelsMs: running ? stats.promptToPixelsMs : null,
      fps: running ? stats.video.fps : null,
    };
    this.looks.value = [...this.looks.value.slice(-(MOST_LOOKS - 1)), look];
  }
}
