import { expect, test } from "vitest";
import { Chunks } from "../../src/console/chunks";
import { SchedulerClock } from "../../src/console/clock";
import { Feed, pauseMs, TIMES, type Asking, type Link } from "../../src/console/feed";
import { Journal } from "../../src/console/journal";
import { Pool } from "../../src/console/pool";
import { ProblemError } from "../../src/shared/problems";
import * as wires from "./wires";

/** A service whose streams and clock are moved by the test. */
class Service implements Asking {
  readonly asked: string[] = [];
  readonly streams: { path: string; headers: Readonly<Record<string, string>>; say: (text: string) => void; end: () => void }[] = [];
  pool: () => object = () => wires.pool(10, [wires.session("s1", "ACTIVE", { actor_id: "a1" })]);
  refuses: ProblemError | null = null;
  #now = 1000;
  #sleepers: { at: number; wake: () => void }[] = [];

  now = () => this.#now;

  json = async (path: string) => {
    this.asked.push(path);
    if (this.refuses !== null) throw this.refuses;
    return this.pool();
  };

  stream = async (path: string, headers: Readonly<Record<string, string>>) => {
    if (this.refuses !== null) throw this.refuses;
    return new ReadableStream<string>({
      start: (controller) => {
        const say = (text: string) => controller.enqueue(text);
        this.streams.push({ path, headers, say, end: () => controller.close() });
      },
    });
  };

  pause = (ms: number, signal: AbortSignal) =>
    new Promise<void>((resolve) => {
      const wake = () => {
        signal.removeEventListener("abort", wake);
        resolve();
      };
      this.#sleepers.push({ at: this.#now + ms, wake });
      signal.addEventListener("abort", wake);
    });

  /** Lets time go by. */
  async pass(ms: number): Promise<void> {
    await settled();
    this.#now += ms;
    const due = this.#sleepers.filter(({ at }) => at <= this.#now);
    this.#sleepers = this.#sleepers.filter(({ at }) => at > this.#now);
    for (const { wake } of due) wake();
    await settled();
  }
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

async function following(use: (service: Service, pool: Pool, links: () => Link) => Promise<void>): Promise<void> {
  const service = new Service();
  const pool = new Pool();
  const [journal, stop] = [new Journal(pool), new AbortController()];
  let link: Link = { is: "connecting" };
  const fed = { pool, journal, chunks: new Chunks(), clock: new SchedulerClock(), onLink: (state: Link) => (link = state) };
  const run = new Feed(service, fed).run(stop.signal);
  await settled();
  await use(service, pool, () => link);
  stop.abort();
  await settled();
  for (const stream of service.streams) {
    try {
      stream.end();
    } catch {
      // It was ended already.
    }
  }
  await run;
}

const queued = (sequence: number) =>
  wires.sent("session_queued", wires.event(sequence, "session_queued", { session_id: `s${sequence}` }), sequence);

test("asks for the pool, then follows what comes after it", () =>
  following(async (service, pool, link) => {
    expect(service.asked).toEqual(["/operator/pool?sessions=all"]);
    expect(service.streams[0]?.path).toBe("/events?chunks=1&after=0");
    service.streams[0]?.say(wires.sent("started", { sequence: "10", time: "1970-01-01T00:00:05Z" }));
    service.streams[0]?.say(queued(11));
    await settled();
    expect(link()).toEqual({ is: "live" });
    expect([...pool.sessions.keys()]).toEqual(["s1", "s11"]);
  }));

test("says since when it is stale, and goes on after the last event", () =>
  following(async (service, pool, link) => {
    service.streams[0]?.say(wires.sent("started", { sequence: "10" }) + queued(11));
    await settled();
    service.streams[0]?.end();
    await settled();
    expect(link()).toMatchObject({ is: "away", since: 1000, againAt: 1000 + pauseMs(0) });
    await service.pass(pauseMs(0));
    expect(service.streams[1]?.headers).toEqual({ "Last-Event-ID": "11" });
    expect(service.streams[1]?.path).toBe("/events?chunks=1");
    service.pool = () => wires.pool(12, [wires.session("s12", "QUEUED")]);
    service.streams[1]?.say(wires.sent("started", { sequence: "11" }) + queued(12));
    await settled();
    expect(link()).toEqual({ is: "live" });
    expect(pool.sessions.has("s12")).toBe(true);
  }));

test("a gap leads to a snapshot from after it", () =>
  following(async (service, pool, link) => {
    service.streams[0]?.say(wires.sent("started", { sequence: "10" }) + queued(11));
    await settled();
    service.pool = () => wires.pool(30, [wires.session("s30", "QUEUED")]);
    service.streams[0]?.say(wires.sent("gap", { after_sequence: "11", next_sequence: "25" }, 24));
    await settled();
    expect(service.asked.at(-1)).toBe("/operator/pool?sessions=all");
    expect([...pool.sessions.keys()]).toEqual(["s30"]);
    expect(link()).toEqual({ is: "live" });
  }));

test("a snapshot from before the gap is asked for again", () =>
  following(async (service, pool, link) => {
    service.streams[0]?.say(wires.sent("started", { sequence: "10" }) + queued(11));
    await settled();
    service.pool = () => wires.pool(20, [wires.session("old", "QUEUED")]);
    service.streams[0]?.say(wires.sent("gap", { after_sequence: "11", next_sequence: "25" }, 24));
    await settled();
    expect(link()).toMatchObject({ is: "behind" });
    service.pool = () => wires.pool(24, [wires.session("new", "QUEUED")]);
    await service.pass(TIMES.ledgersMs);
    expect(link()).toEqual({ is: "live" });
    expect([...pool.sessions.keys()]).toEqual(["new"]);
  }));

test("silence is taken for the end", () =>
  following(async (service, _, link) => {
    service.streams[0]?.say(wires.sent("started", { sequence: "10" }));
    await settled();
    await service.pass(TIMES.silenceMs);
    expect(link()).toMatchObject({ is: "away", why: "the service has fallen silent" });
  }));

test("waits longer and longer while nobody answers, and says why", () =>
  following(async (service, _, link) => {
    service.streams[0]?.say(wires.sent("started", { sequence: "10" }));
    await settled();
    service.refuses = new ProblemError("the service cannot be reached", "");
    service.streams[0]?.end();
    await settled();
    await service.pass(pauseMs(0));
    expect(link()).toMatchObject({ is: "away", why: "the service cannot be reached", since: 1000 });
    expect(pauseMs(1)).toBeGreaterThan(pauseMs(0));
    expect(pauseMs(50)).toBe(TIMES.longestPauseMs);
    service.refuses = null;
    await service.pass(pauseMs(1));
    service.streams.at(-1)?.say(wires.sent("started", { sequence: "10" }));
    await settled();
    expect(link()).toEqual({ is: "live" });
  }));

test("asks for ledgers often, for the queue while somebody waits, and for all seldom", () =>
  following(async (service) => {
    service.streams[0]?.say(wires.sent("started", { sequence: "10" }));
    await settled();
    service.asked.length = 0;
    for (let second = 0; second < 60; second += 1) {
      service.streams[0]?.say(": ping\n\n");
      await service.pass(1000);
    }
    const times = (sessions: string) => service.asked.filter((path) => path.endsWith(`=${sessions}`)).length;
    expect([times("none"), times("waiting"), times("all")]).toEqual([30, 12, 1]);
  }));

test("says that the scheduler does not answer although the stream stands", () =>
  following(async (service, _, link) => {
    service.streams[0]?.say(wires.sent("started", { sequence: "10" }));
    await settled();
    service.refuses = new ProblemError("the service is starting", "", 503);
    await service.pass(TIMES.ledgersMs);
    expect(link()).toEqual({ is: "live" });
    await service.pass(TIMES.ledgersMs);
    expect(link()).toEqual({ is: "behind", since: 1000, why: "the service is starting" });
    service.refuses = null;
    await service.pass(TIMES.ledgersMs);
    expect(link()).toEqual({ is: "live" });
  }));
