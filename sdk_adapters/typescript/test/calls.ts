import { SanaStreamingModel } from "../src/index.js";
import { FakeService } from "./fakes.js";

export const AT = { apiUrl: "http://service/", token: "t" };

/** A model that is connected to a service. */
export async function ready(options = {}): Promise<[SanaStreamingModel, FakeService]> {
  const service = new FakeService();
  const model = new SanaStreamingModel(service);
  const connected = model.connect({ ...AT, ...options });
  connected.catch(() => undefined);
  await service.advance();
  await connected;
  return [model, service];
}

/** Loses the transport, and lets the client come again. */
export async function lose(service: FakeService, ms = 2000): Promise<void> {
  service.peer.become("failed");
  await service.advance(ms);
}
