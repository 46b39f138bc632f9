/** The provider of a model, and what components see of it. */
import {
  createContext,
  createElement,
  useCallback,
  useContext,
  useEffect,
  useRef,
  useState,
  useSyncExternalStore,
  type ReactElement,
  type ReactNode,
} from "react";
import {
  SanaError,
  SanaStreamingModel,
  type ConnectionStats,
  type ConnectOptions,
  type Events,
  type QueuePlace,
  type Status,
} from "../index.js";
import type { State } from "../contract.js";

interface Provided {
  readonly model: SanaStreamingModel;
  readonly error: unknown;
}

const Context = createContext<Provided | null>(null);

/** Properties of `SanaProvider`. */
export interface SanaProviderProps {
  /** How to connect. Without it nobody connects: call `useSana().connect`. Read when it mounts. */
  readonly connect?: ConnectOptions;
  /** A model of your own; without it one is made. */
  readonly model?: SanaStreamingModel;
  /** What went wrong, also behind the scenes. */
  readonly onError?: (error: unknown) => void;
  readonly children?: ReactNode;
}

/** Gives a model to the components within; connects it while it is mounted. */
export function SanaProvider({ connect, model: given, onError, children }: SanaProviderProps): ReactElement {
  const [model] = useState(() => given ?? new SanaStreamingModel());
  const [error, setError] = useState<unknown>(null);
  const options = useRef(connect);
  const report = useRef(onError);
  report.current = onError;
  const failed = useCallback((cause: unknown) => {
    setError(cause);
    report.current?.(cause);
  }, []);
  useEffect(() => model.on("error", failed), [model, failed]);
  useEffect(
    () => model.on("statusChanged", (status) => void (status === "ready" && setError(null))),
    [model],
  );
  useEffect(() => {
    if (options.current === undefined) return undefined;
    let mounted = true;
    model.connect(options.current).catch((cause: unknown) => mounted && failed(cause));
    return () => {
      mounted = false;
      void model.disconnect();
    };
  }, [model, failed]);
  return createElement(Context.Provider, { value: { model, error } }, children);
}

/** Returns the model of the provider: its commands, its media, `on`. */
export function useSana(): SanaStreamingModel {
  return useProvided().model;
}

/** Returns what went wrong last; null once the model is ready again. */
export function useSanaError(): SanaError | Error | null {
  return useProvided().error as SanaError | Error | null;
}

/** Returns where the model stands. */
export function useSanaStatus(): Status {
  return useSeen("statusChanged", (model) => model.status, "disconnected");
}

/** Returns the place in the queue for a GPU; null while not queued. */
export function useSanaQueue(): QueuePlace | null {
  return useSeen("queueChanged", (model) => model.queue, null);
}

/** Returns the snapshot of the session, or what a selector makes of it; null until it is ready. */
export function useSanaState(): State | null;
export function useSanaState<Part>(select: (state: State | null) => Part): Part;
export function useSanaState<Part>(select?: (state: State | null) => Part): State | Part | null {
  // The snapshot is forgotten when the connection is over: of that `status` tells.
  useSanaStatus();
  const state = useSeen("stateChanged", (model) => model.state, null);
  return select === undefined ? state : select(state);
}

/** Returns the track of the edited video; null before there is one. */
export function useSanaTrack(): MediaStreamTrack | null {
  return useSeen("trackReceived", (model) => model.videoTrack, null);
}

/** Calls back with every event of a name while the component is mounted. */
export function useSanaMessage<Name extends keyof Events>(name: Name, handler: (value: Events[Name]) => void): void {
  const model = useSana();
  const latest = useRef(handler);
  latest.current = handler;
  useEffect(() => model.on(name, (value) => latest.current(value)), [model, name]);
}

/** Returns how good the connection is, looked at every so often; null before the first look. */
export function useSanaStats(everyMs = 2000): ConnectionStats | null {
  const model = useSana();
  const [stats, setStats] = useState<ConnectionStats | null>(null);
  useEffect(() => {
    let mounted = true;
    const look = () => void model.stats().then((seen) => mounted && setStats(seen));
    const timer = setInterval(look, everyMs);
    return () => {
      mounted = false;
      clearInterval(timer);
    };
  }, [model, everyMs]);
  return stats;
}

function useProvided(): Provided {
  const provided = useContext(Context);
  if (provided === null) throw new Error("put this component within <SanaProvider>");
  return provided;
}

function useSeen<Value>(name: keyof Events, look: (model: SanaStreamingModel) => Value, before: Value): Value {
  const model = useSana();
  const subscribe = useCallback((changed: () => void) => model.on(name, changed), [model, name]);
  return useSyncExternalStore(
    subscribe,
    () => look(model),
    () => before,
  );
}
