import { describeModelBackend } from '../../contracts/model-backend.js';
import { createMemoryBackend } from '../../support/memory-backend.js';

describeModelBackend('in memory, which shows that the suite is not about Ollama [FUT-01]', async () => {
  const backend = createMemoryBackend(['one:latest', 'two:latest'], { 'uno:latest': 'one:latest' });
  return {
    backend,
    models: ['one:latest', 'two:latest'],
    alias: 'uno:latest',
    missing: 'absent:latest',
    busy: async () => backend.underWay() > 0,
    residence: async () => String(backend.loads()),
    harm: {
      away: async () => void (backend.harm = { kind: 'away' }),
      stall: (afterPieces) => void (backend.harm = { kind: 'stall', afterPieces }),
      cut: (afterPieces) => void (backend.harm = { kind: 'cut', afterPieces }),
      error: (afterPieces, message) => void (backend.harm = { kind: 'error', afterPieces, message }),
      end: (afterPieces) => void (backend.harm = { kind: 'end', afterPieces }),
      full: () => void (backend.harm = { kind: 'full' }),
      heal: async () => void (backend.harm = undefined),
    },
    stop: async () => {},
  };
});
