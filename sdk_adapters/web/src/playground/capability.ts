/** What the served model can, as its schema says (`GET /schema`, an OpenAPI document). Pure. */

/** What the page offers by it. */
export interface Capability {
  readonly model: string;
  /** Whether prompts may become others over several chunks, and over how many at most; 0: not. */
  readonly mostTransitionChunks: number;
  /** Whether it has a seed, and the largest; 0: it has none. */
  readonly mostSeed: number;
}

/** What is assumed of a model whose schema cannot be had. */
export const UNKNOWN: Capability = { model: "sana-streaming", mostTransitionChunks: 0, mostSeed: 2 ** 53 - 1 };

interface Property {
  readonly maximum?: number;
}
interface Operation {
  readonly requestBody?: {
    readonly content?: Record<string, { readonly schema?: { readonly properties?: Record<string, Property> } }>;
  };
}
/** The parts of the document that are looked at. */
export interface Schema {
  readonly info?: { readonly title?: string };
  readonly paths?: Record<string, { readonly post?: Operation }>;
}

/** Reads a schema. */
export function capabilityOf(schema: Schema): Capability {
  const argument = (command: string, name: string) =>
    schema.paths?.[`/events/${command}`]?.post?.requestBody?.content?.["application/json"]?.schema?.properties?.[name];
  return {
    model: schema.info?.title ?? UNKNOWN.model,
    mostTransitionChunks: argument("set_prompt", "transition_chunks")?.maximum ?? 0,
    mostSeed: argument("set_seed", "seed")?.maximum ?? 0,
  };
}
