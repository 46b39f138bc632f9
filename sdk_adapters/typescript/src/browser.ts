/** The environment of a browser. */
import type { Environment, ResponsePort } from "./ports.js";

/** Returns the environment of this page. */
export function browser(): Environment {
  return {
    fetch: (url, request) => fetch(url, request),
    put: typeof XMLHttpRequest === "undefined" ? putByFetch : putByRequest,
    makePeer: (configuration) => new RTCPeerConnection(configuration),
    makeStream: () => new MediaStream(),
    now: () => performance.now(),
    after: (ms, callback) => {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
    random: () => Math.random(),
    newId: () => [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(36)).join(""),
    onOnline: (callback) => {
      globalThis.addEventListener?.("online", callback);
      return () => globalThis.removeEventListener?.("online", callback);
    },
  };
}

/** `fetch` tells nothing of how far an upload has come; this does. */
const putByRequest: Environment["put"] = (url, file, type, onProgress, signal) =>
  new Promise<ResponsePort>((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    request.setRequestHeader("Content-Type", type);
    request.upload.onprogress = ({ loaded }) => onProgress(Math.min(loaded, file.size), file.size);
    request.onload = () =>
      resolve({
        status: request.status,
        headers: { get: (name) => request.getResponseHeader(name) },
        text: async () => request.responseText,
      });
    request.onerror = () => reject(new TypeError("the upload was interrupted"));
    request.onabort = () => reject(signal?.reason as Error);
    if (signal?.aborted) return reject(signal.reason as Error);
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });

const putByFetch: Environment["put"] = async (url, file, type, _, signal) =>
  fetch(url, { method: "PUT", headers: { "Content-Type": type }, body: file, ...(signal && { signal }) });
