import { modelOrderRoute } from '../model-order-route.js';

export const postModelPull = modelOrderRoute(
  'pull',
  'Pull a model',
  'Fetches a model, or its newest version under the same tag, without loading it. `GET /api/v1/models` shows how far it is.',
);
