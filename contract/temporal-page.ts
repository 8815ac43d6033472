/**
 * Address of a workflow in the Temporal Web UI, or of the list of all workflows.
 * @param base address of the Web UI, with or without a slash at its end
 */
export function temporalPage(base: string, namespace: string, workflowId?: string): string {
  const list = `${base.replace(/\/+$/, '')}/namespaces/${encodeURIComponent(namespace)}/workflows`;
  return workflowId === undefined ? list : `${list}/${encodeURIComponent(workflowId)}`;
}
