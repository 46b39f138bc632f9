// The two things that the documented example leaves to the app: where the service is, and a token.

declare const GATEWAY_URL: string; // Put in by the build; see server.mjs.

export const apiUrl = GATEWAY_URL;

/** Asks our own server for a token: the API key stays there. */
export async function getToken(): Promise<string> {
  const response = await fetch("/token", { method: "POST" });
  if (!response.ok) throw new Error(`no token: ${response.status} ${await response.text()}`);
  return (await response.json()).jwt;
}
