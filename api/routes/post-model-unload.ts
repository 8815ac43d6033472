import { modelOrderRoute } from '../model-order-route.js';

export const postModelUnload = modelOrderRoute(
  'unload',
  'Unload a model',
  'Unloads a model from a host. Refused while steps run on it or wait for it, since it would be loaded again at once.',
);
