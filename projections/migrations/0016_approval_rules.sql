-- Who may answer, who was asked after them, and what a person changed: an approval with other arguments asks anew.

ALTER TABLE projections.ai_agent_approvals
  ADD COLUMN role         text,
  ADD COLUMN escalated_at timestamptz,
  ADD COLUMN arguments    jsonb,
  ADD COLUMN edited_by    text,
  ADD COLUMN replaces     uuid,
  ADD COLUMN replaced_by  uuid;

ALTER TABLE projections.ai_agent_executions
  ADD COLUMN requested_by text;
