/**
 * Who the page calls as. The token stays in this tab (`sessionStorage`): never in the URL, never
 * logged. An API key is exchanged for a token at once and is not kept.
 */
import { signal } from "@preact/signals";
import { ProblemError } from "./problems";

const KEY = "sana.token";
/** How an API key begins; it is no token. */
const KEY_MARK = "rk_";

/** The token; empty: none, which is enough where nobody is asked. */
export const token = signal(sessionStorage.getItem(KEY) ?? "");

/** Whether the service asked who we are, and the sign-in is shown; the text says why. */
export const asked = signal<string | null>(null);

let waiting: (() => void)[] = [];
let details: readonly object[] = [];

/** Says what tokens made of API keys are for (`authorization_details`, docs/auth.md). */
export function wanted(authorizationDetails: readonly object[]): void {
  details = authorizationDetails;
}

/** Asks for a key or token; returns once there is another one. */
export function ask(why = "This service asks who you are."): Promise<void> {
  asked.value = why;
  return new Promise((resolve) => waiting.push(resolve));
}

/**
 * Takes what was typed: a token, or an API key.
 *
 * @throws {ProblemError} The key is not taken.
 */
export async function signIn(typed: string): Promise<void> {
  const given = typed.trim();
  token.value = given.startsWith(KEY_MARK) ? await exchanged(given) : given;
  sessionStorage.setItem(KEY, token.value);
  asked.value = null;
  const woken = waiting;
  waiting = [];
  for (const resolve of woken) resolve();
}

/** Forgets the token. */
export function signOut(): void {
  token.value = "";
  sessionStorage.removeItem(KEY);
}

async function exchanged(key: string): Promise<string> {
  const response = await fetch("/tokens", {
    method: "POST",
    headers: { "Reactor-API-Key": key, "Content-Type": "application/json" },
    body: JSON.stringify(details.length ? { authorization_details: details } : {}),
  });
  const said = (await response.json().catch(() => ({}))) as { jwt?: string; detail?: string };
  if (!response.ok || said.jwt === undefined)
    throw new ProblemError(said.detail ?? "the key was not taken", "Check the key, or ask the operator for one.");
  return said.jwt;
}
