/**
 * The commands that wait for their answer. Pure, but for the promises.
 *
 * A command is answered by an ack, and what it led to is said before: `promptAccepted`, or a
 * `commandError`. Only `setVideo` is answered later, when the clip was looked at. After a
 * reconnect what has no answer is sent again: the service knows the id and changes nothing. An
 * answer that was missed is then repeated to all, without the id.
 */
import type { CommandError, Commands, Messages } from "./contract.js";
import { CommandRejected, ConnectionLostError, SanaError } from "./errors.js";
import type { Message } from "./wire.js";

/** Name of a command's method. */
export type CommandName = keyof Commands;

/** What a command resolves with, where it is more than an ack. */
export const REPLIES = {
  setPrompt: "promptAccepted",
  setVideo: "videoAccepted",
  reset: "generationReset",
} as const satisfies Partial<Record<CommandName, keyof Messages>>;

/** Commands that are answered after their ack. */
const LATE: ReadonlySet<CommandName> = new Set(["setVideo"]);
/** Commands that may wait at once; the service takes no more of one connection. */
export const MOST = 256;

/** The answer to a command: its ack. */
export interface Acknowledgement {
  /** The command. */
  readonly commandId: string;
}

/** What a command resolves with. */
export type Reply<Name extends CommandName> = Name extends keyof typeof REPLIES
  ? Messages[(typeof REPLIES)[Name]] & Acknowledgement
  : Acknowledgement;

/** A command that waits. */
export interface Pending {
  readonly id: string;
  readonly name: CommandName;
  readonly arguments: Commands[CommandName];
  /** Stops its timer; null while it was not sent. */
  cancel: (() => void) | null;
  /** Whether the connection was lost since it was sent: its answer may have been told to others. */
  lost: boolean;
  acked: boolean;
  reply: object | null;
  resolve(reply: object): void;
  reject(error: SanaError): void;
}

/** The commands that wait for their answer, in the order they were given. */
export class PendingCommands {
  readonly #commands = new Map<string, Pending>();

  get size(): number {
    return this.#commands.size;
  }

  /** All, in order. */
  all(): Pending[] {
    return [...this.#commands.values()];
  }

  /** Adds a command; its promise settles with its answer. */
  add<Name extends CommandName>(id: string, name: Name, given: Commands[Name]): [Pending, Promise<Reply<Name>>] {
    let added: Pending | undefined;
    const promise = new Promise<object>((resolve, reject) => {
      added = { id, name, arguments: given, cancel: null, lost: false, acked: false, reply: null, resolve, reject };
    });
    this.#commands.set(id, added as Pending);
    return [added as Pending, promise as Promise<Reply<Name>>];
  }

  /** Takes a message of the session: it may answer a command. */
  message(message: Message): void {
    const pending = this.#commands.get(message.commandId) ?? this.#missed(message);
    if (pending === undefined) return;
    if (message.name === "commandError") {
      this.#settle(pending, () => pending.reject(new CommandRejected(message.data)));
    } else if (message.name === replyTo(pending.name)) {
      pending.reply = message.data;
      if (pending.acked) this.#resolve(pending);
    }
  }

  /** Takes the ack of a command. */
  ack(id: string, accepted: boolean): void {
    const pending = this.#commands.get(id);
    if (pending === undefined) return;
    pending.acked = true;
    if (!accepted) {
      // Of a refusal before a reconnect: the words are not repeated.
      this.#settle(pending, () => pending.reject(new CommandRejected(unexplained(pending.name))));
    } else if (pending.reply !== null || !LATE.has(pending.name)) {
      this.#resolve(pending);
    }
  }

  /** The connection is lost: what was sent has to be sent again. */
  lost(): void {
    for (const pending of this.all()) pending.lost = pending.cancel !== null;
  }

  /** Messages were lost: a late answer may be among them. */
  gap(): void {
    for (const pending of this.all()) {
      if (pending.acked) {
        const advice = "Look at `state.hasVideo`; where it is false, call setVideo again.";
        const error = new ConnectionLostError(`the answer to ${pending.name} was missed`, advice);
        this.#settle(pending, () => pending.reject(error));
      }
    }
  }

  /** Gives one up. */
  fail(id: string, error: SanaError): void {
    const pending = this.#commands.get(id);
    if (pending !== undefined) this.#settle(pending, () => pending.reject(error));
  }

  /** Gives all up. */
  failAll(error: SanaError): void {
    for (const { id } of this.all()) this.fail(id, error);
  }

  /** An answer that was said to others while we were away. */
  #missed(message: Message): Pending | undefined {
    if (message.commandId !== "") return undefined;
    return this.all().find(({ name, lost, reply }) => lost && !reply && replyTo(name) === message.name);
  }

  #resolve(pending: Pending): void {
    const { id, name, reply } = pending;
    // The journal has forgotten it, but an accepted prompt is the prompt that was given.
    const said = reply ?? (name in REPLIES ? pending.arguments : {});
    this.#settle(pending, () => pending.resolve({ ...said, commandId: id }));
  }

  #settle(pending: Pending, how: () => void): void {
    this.#commands.delete(pending.id);
    pending.cancel?.();
    how();
  }
}

const replyTo = (name: CommandName) => (REPLIES as Partial<Record<CommandName, keyof Messages>>)[name];

const unexplained = (command: string): CommandError => ({
  command,
  reason: "it was refused; why was said while the connection was lost",
  code: "unspecified",
  allowedPhases: [],
  phase: "unspecified",
  retryAfterS: 0,
});
