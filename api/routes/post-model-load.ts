import { modelOrderRoute } from '../model-order-route.js';

export const postModelLoad = modelOrderRoute(
  'load',
  'Load a model',
  'Loads a model on a host, and fetches it first when it is missing. The default policy holds one model at a time, so others are unloaded, unless steps run on them. Steps in the queue decide what is loaded next; a model that nobody waits for stays until another one is needed.',
);
