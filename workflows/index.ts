export { changeResidency } from './change-residency.js';
export { runTask } from './run-task.js';
