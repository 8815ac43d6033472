import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { packageRoot } from '../config.js';
import { openApiText } from './openapi.js';

// `npm run openapi`: writes openapi.json, which is checked in so that a change of the API shows in review.
await writeFile(path.join(packageRoot(), 'openapi.json'), openApiText());
