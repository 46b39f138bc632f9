// The whole of @reactor-team/js-sdk that pages need, as it comes from the registry.
export { Reactor } from "@reactor-team/js-sdk";
