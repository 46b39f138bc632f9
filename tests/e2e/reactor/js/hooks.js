"use strict";

// Loaded before any client: notes what a client does with the browser, and changes none of it
// but the version that requests name, where a test says so.

const seen = {
  /** Requests: {method, path, headers, body}, and {status, retryAfter} of their answers. */
  requests: [],
  /** What was sent on data channels: {label, text}. */
  said: [],
  /** Peers that were made. */
  peers: [],
  /** Version of the API that requests are made to name; null leaves it. */
  version: null,
};

const fetchIt = globalThis.fetch;
globalThis.fetch = async (url, options = {}) => {
  const { method = "GET" } = options, headers = { ...options.headers };
  if (seen.version !== null && "Reactor-API-Version" in headers)
    headers["Reactor-API-Version"] = seen.version;
  const entry = { method, path: new URL(url, location.href).pathname, headers };
  if (typeof options.body === "string") entry.body = options.body;
  seen.requests.push(entry);
  const response = await fetchIt(url, { ...options, headers });
  entry.status = response.status;
  entry.retryAfter = response.headers.get("Retry-After");
  return response;
};

const sendIt = RTCDataChannel.prototype.send;
RTCDataChannel.prototype.send = function (text) {
  seen.said.push({ label: this.label, text });
  return sendIt.call(this, text);
};

globalThis.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...values) {
    super(...values);
    seen.peers.push(this);
  }
};
