/**
 * React on top of `@sana-gateway/client`: a provider, hooks and two components.
 *
 *     <SanaProvider connect={{ apiUrl, getToken }}>
 *       <SanaWebcam />
 *       <SanaVideo />
 *     </SanaProvider>
 *
 * @packageDocumentation
 */
export { SanaVideo, SanaWebcam, type SanaVideoProps, type SanaWebcamProps } from "./components.js";
export {
  SanaProvider,
  useSana,
  useSanaError,
  useSanaMessage,
  useSanaQueue,
  useSanaState,
  useSanaStats,
  useSanaStatus,
  useSanaTrack,
  type SanaProviderProps,
} from "./hooks.js";
