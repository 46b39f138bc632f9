/** What a user does: one object that the whole page works with. */
import { SanaError } from "@sana-gateway/client";
import { computed, effect, signal, untracked } from "@preact/signals";
import { ProblemError, report, reportError } from "../shared/problems";
import { json } from "../shared/request";
import { capabilityOf, UNKNOWN, type Capability, type Schema } from "./capability";
import { did, type Deed, type Done } from "./deeds";
import { PRESETS } from "./presets";
import { Shot } from "./shot";
import { source, type Source } from "./source";

/** Copies of the shot beside it. */
export const MOST_TAKES = 3;

/** A copy of the shot with another prompt. */
export interface Take {
  readonly id: string;
  readonly prompt: string;
  readonly shot: Shot;
}

/** What the page is busy with. */
export interface Work {
  readonly what: string;
  /** How far it has come, 0 to 1; null: unknown. */
  readonly progress: number | null;
}

const STARTING = "Starting";
const NO_SOURCE = { title: "There is no source", advice: "Choose a camera, a screen or a file." };
const NO_PROMPT = { title: "There is no prompt", advice: "Type what to make of the picture, or pick one." };

/** Errors after which the same may work a moment later. */
const PASSING: ReadonlySet<string> = new Set(["no_capacity", "connection_lost", "timed_out", "model_failed", "limit"]);
const mayHelp = (error: unknown) => error instanceof SanaError && PASSING.has(error.code);

/** Where the shot stands, for buttons. */
export type Stand = "empty" | "ready" | "busy" | "running" | "paused";

/** See above. */
export class Desk {
  readonly shot = new Shot();
  readonly takes = signal<readonly Take[]>([]);
  readonly capability = signal<Capability>(UNKNOWN);
  /** What is typed. */
  readonly draft = signal(PRESETS[0]?.prompt ?? "");
  readonly transitionChunks = signal(0);
  /** Null: the session's own. */
  readonly seed = signal<number | null>(null);
  readonly work = signal<Work | null>(null);
  readonly deeds = signal<readonly Done[]>([]);
  /** What the session has as its source; null: nothing. */
  readonly staged = signal<Source | null>(null);

  readonly stand = computed<Stand>(() => {
    const state = this.shot.state.value;
    if (this.work.value !== null) return "busy";
    if (state?.paused) return "paused";
    if (state?.started) return "running";
    return source.value === null ? "empty" : "ready";
  });
  /** A run is about to begin. */
  readonly starts = computed(() => this.work.value?.what === STARTING);
  /** The draft is not what the run is made with. */
  readonly isEdited = computed(() => {
    const state = this.shot.state.value;
    return state?.started === true && this.draft.value.trim() !== (state.currentPrompt ?? "");
  });
  /** Another source was chosen than the one that is edited. */
  readonly isOtherSource = computed(() => {
    const staged = this.staged.value;
    return staged !== null && source.value !== null && staged !== source.value;
  });

  #abort: AbortController | null = null;
  /** The model that the address of the page names. */
  #wanted: string | null = null;
  /** Its schema was read. */
  #looked = false;

  constructor() {
    effect(() => {
      if (this.shot.status.value === "disconnected") this.staged.value = null;
    });
    // A camera takes the place of another one at once; a clip is looked at when it is started.
    effect(() => {
      const chosen = source.value;
      const staged = this.staged.peek();
      if (staged === null || staged.kind === "file" || chosen?.kind === "file" || staged === chosen) return;
      untracked(() => void this.#exchange(chosen));
    });
    addEventListener("pagehide", () => void this.leave());
  }

  /** Learns what is served: the model that is named, or the first. */
  async look(model: string | null): Promise<void> {
    this.#wanted = model;
    try {
      const query = model === null ? "" : `?model=${encodeURIComponent(model)}`;
      this.capability.value = capabilityOf(await json<Schema>(`/schema${query}`));
      this.#looked = true;
    } catch (error) {
      if (model !== null) this.capability.value = { ...UNKNOWN, model };
      // No worker has come up yet: it is looked again before a run begins.
      const starts = error instanceof ProblemError && (error.status === 503 || (error.status === 404 && model === null));
      if (!starts) reportError(error);
    }
  }

  /** Begins a run: connects, stages the source and the prompt, and starts. */
  async begin(): Promise<void> {
    const [chosen, prompt] = [source.value, this.draft.value.trim()];
    if (this.work.value !== null) return;
    if (chosen === null || prompt === "") {
      report(chosen === null ? NO_SOURCE : NO_PROMPT);
      return;
    }
    this.#abort = new AbortController();
    const { signal: aborted } = this.#abort;
    const { shot } = this;
    try {
      await this.#connected(aborted);
      if (shot.state.value?.started) {
        await shot.run("reset");
        this.#did({ kind: "reset" });
        this.staged.value = null;
      }
      await this.#stage(chosen, aborted);
      this.#busy(STARTING);
      const seed = this.seed.value;
      if (seed !== null && seed !== shot.state.value?.seed) {
        await shot.setSeed(seed);
        this.#did({ kind: "seed", seed });
      }
      if (prompt !== shot.state.value?.currentPrompt) await this.#prompt(prompt, 0);
      const mode = chosen.kind === "file" ? "file" : "live";
      await shot.setMode(mode);
      this.#did({ kind: "mode", mode });
      await shot.run("start");
      this.#did({ kind: "start" });
    } catch (error) {
      const again = { label: "Try again", run: () => void this.begin() };
      if (!aborted.aborted) reportError(error, mayHelp(error) ? again : undefined);
    } finally {
      this.work.value = this.#abort = null;
    }
  }

  /** Gives up what the page is busy with. */
  cancel(): void {
    this.#abort?.abort(new DOMException("given up", "AbortError"));
    if (this.shot.status.value !== "ready") void this.shot.close();
  }

  /** Makes the draft the prompt, now. */
  async apply(): Promise<void> {
    const prompt = this.draft.value.trim();
    if (!this.shot.state.value?.started) return this.begin();
    await this.#tried(() => this.#prompt(prompt, this.transitionChunks.value));
  }

  /** Halts, or goes on: the shot and its takes. */
  async turn(name: "pause" | "resume"): Promise<void> {
    for (const { shot } of this.takes.value) {
      const { phase } = shot.state.value ?? {};
      if (phase === (name === "pause" ? "running" : "paused")) void this.#tried(() => shot.run(name));
    }
    await this.#tried(() => this.shot.run(name));
    this.#did({ kind: name });
  }

  /** What the one big button does. */
  async go(): Promise<void> {
    const stand = this.stand.value;
    if (stand === "busy") return;
    if (this.isOtherSource.value || stand === "ready" || stand === "empty") return this.begin();
    return this.turn(stand === "running" ? "pause" : "resume");
  }

  /** Drops prompt, clip and progress; the source stays chosen here. */
  async reset(): Promise<void> {
    this.closeTakes();
    await this.#tried(async () => {
      await this.shot.run("reset");
      this.staged.value = null;
      this.#did({ kind: "reset" });
    });
  }

  /** Copies the shot, a copy for each prompt. */
  async fork(prompts: readonly string[]): Promise<void> {
    await this.#tried(async () => {
      const { shot } = this;
      const count = prompts.length;
      const ids = await shot.command("fork", { copies: count }, () => shot.model.fork(count));
      this.#did({ kind: "fork", prompts });
      const takes = ids.map((id, index) => ({ id, prompt: prompts[index] ?? "", shot: new Shot() }));
      this.takes.value = [...this.takes.value, ...takes];
      await Promise.all(takes.map((take) => this.#open(take)));
    });
  }

  /** Ends a take. */
  closeTake(take: Take): void {
    this.takes.value = this.takes.value.filter((each) => each !== take);
    void take.shot.close();
  }

  /** Ends all of them. */
  closeTakes(): void {
    for (const take of this.takes.value) this.closeTake(take);
  }

  /** Ends the session and frees what it held. */
  async leave(): Promise<void> {
    this.cancel();
    this.closeTakes();
    await this.shot.close();
  }

  // -- the steps

  async #connected(aborted: AbortSignal): Promise<void> {
    if (this.shot.status.value !== "disconnected") return;
    this.#busy("Connecting");
    if (!this.#looked) await this.look(this.#wanted);
    const { model } = this.capability.value;
    await this.shot.connect({ model, signal: aborted });
    this.#did({ kind: "connect", model });
  }

  async #stage(chosen: Source, aborted: AbortSignal): Promise<void> {
    const { shot } = this;
    if (chosen.kind !== "file") {
      const [track] = chosen.stream.getVideoTracks();
      if (track === undefined) throw new ProblemError(`the ${chosen.kind} has ended`, "Choose it again.");
      if (shot.model.cameraTrack !== track) {
        await shot.command("publish", { track: "camera" }, () => shot.model.publishCamera(track));
        this.#did({ kind: chosen.kind });
      }
    } else if (this.staged.value !== chosen || !shot.state.value?.hasVideo) {
      this.#busy("Uploading", 0);
      const onProgress = (sent: number, total: number) => this.#busy("Uploading", total > 0 ? sent / total : null);
      const video = await shot.model.uploadFile(chosen.file, { onProgress, signal: aborted });
      this.#busy("Looking at the clip");
      await shot.setVideo(video);
      this.#did({ kind: "clip", name: chosen.file.name });
    }
    this.staged.value = chosen;
  }

  async #exchange(chosen: Source | null): Promise<void> {
    const track = chosen !== null && chosen.kind !== "file" ? chosen.stream.getVideoTracks()[0] : undefined;
    const models = [this.shot, ...this.takes.value.map(({ shot }) => shot)].map(({ model }) => model);
    this.staged.value = chosen;
    await this.#tried(() => Promise.all(models.map((each) => (track ? each.publishCamera(track) : each.unpublish()))));
    if (chosen !== null && chosen.kind !== "file") this.#did({ kind: chosen.kind });
    else report({ title: "The source has ended", advice: "Choose another one: the edit goes on with it." });
  }

  async #prompt(prompt: string, transitionChunks: number): Promise<void> {
    await this.shot.setPrompt(prompt, transitionChunks);
    this.#did({ kind: "prompt", prompt, transitionChunks });
  }

  async #open(take: Take): Promise<void> {
    const { shot, id, prompt } = take;
    const { model } = this.capability.value;
    try {
      await shot.connect({ model, sessionId: id, owned: true });
      const { cameraTrack } = this.shot.model;
      if (cameraTrack !== null) await shot.model.publishCamera(cameraTrack);
      await shot.setPrompt(prompt, 0);
    } catch (error) {
      if (!this.takes.value.includes(take)) return;
      this.closeTake(take);
      reportError(error);
    }
  }

  #busy(what: string, progress: number | null = null): void {
    this.work.value = { what, progress };
  }

  #did(deed: Deed): void {
    this.deeds.value = did(this.deeds.value, { ...deed, at: performance.now() });
  }

  async #tried(job: () => Promise<unknown>): Promise<void> {
    await job().catch((error: unknown) => reportError(error));
  }
}

/** The one of this page. */
export const desk = new Desk();
