/** Requests to our own routes, with the token; asks for one where the service does. */
import { ask, token } from "./credentials";
import { ProblemError } from "./problems";

/** What is asked. */
export interface Asked {
  readonly method?: "GET" | "POST" | "DELETE";
  /** Sent as JSON. */
  readonly body?: object;
  readonly signal?: AbortSignal;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What to do, by status. */
const ADVICE: Readonly<Record<number, string>> = {
  403: "Sign in with a token that allows this, or ask who operates the service.",
  404: "It may be gone: look again.",
  429: "Wait a moment, then try again.",
  503: "The service is busy or starting: try again in a moment.",
};

/**
 * Returns the answer to a request, whole.
 *
 * @throws {ProblemError} It was refused, or nobody answered.
 */
export async function send(path: string, { method = "GET", body, signal, headers = {} }: Asked = {}): Promise<Response> {
  for (;;) {
    const shown = token.value;
    const response = await fetch(path, {
      method,
      headers: {
        ...headers,
        ...(body && { "Content-Type": "application/json" }),
        ...(shown && { Authorization: `Bearer ${shown}` }),
      },
      ...(body && { body: JSON.stringify(body) }),
      ...(signal && { signal }),
    }).catch((error: unknown) => {
      if (signal?.aborted) throw error;
      throw new ProblemError("the service cannot be reached", "Check the network; it is tried again by itself.");
    });
    if (response.status === 401) {
      if (shown === token.value) await ask(shown ? "The token was refused or has expired." : undefined);
      continue;
    }
    if (response.ok) return response;
    const said = (await response.json().catch(() => ({}))) as { detail?: string };
    const advice = ADVICE[response.status] ?? "Try again.";
    throw new ProblemError(said.detail ?? `the service answered ${response.status}`, advice, response.status);
  }
}

/** The same, parsed. The caller says what it is. */
export async function json<Answer>(path: string, asked: Asked = {}): Promise<Answer> {
  const response = await send(path, asked);
  return (response.status === 204 ? {} : await response.json()) as Answer;
}
