-- The address that an account is about to leave is told when that is asked for, too, and may stop it.
ALTER TABLE mails
    DROP CONSTRAINT mails_sent_as_check,
    ADD CONSTRAINT mails_sent_as_check CHECK (sent_as IN (
        'confirm', 'account_exists', 'foreign_confirm', 'password_changed', 'password_reset', 'password_reset_done',
        'refresh_token_reused', 'email_change', 'email_moving', 'email_changed', 'email_taken')),
    DROP CONSTRAINT mails_notice_check,
    ADD CONSTRAINT mails_notice_check CHECK (notice IN (
        'password_changed', 'password_reset_done', 'refresh_token_reused', 'email_moving', 'email_changed')),
    DROP CONSTRAINT mails_of_move_has_move,
    ADD CONSTRAINT mails_of_move_has_move CHECK (
        (kind = 'email_change' OR coalesce(notice IN ('email_moving', 'email_changed'), false)) = (move_id IS NOT NULL));
