package binlog

import "testing"

func TestCascade(t *testing.T) {
	for text, want := range map[string]string{
		"CREATE TABLE `a` (`on` int COMMENT 'ON DELETE CASCADE', CONSTRAINT `b` FOREIGN KEY (`on`) REFERENCES `c` (`id`))":                         "",
		"CREATE TABLE `a` (`t` timestamp ON UPDATE current_timestamp(), CONSTRAINT `b` FOREIGN KEY (`x`) REFERENCES `c` (`id`) ON DELETE CASCADE)": "b",
		"CREATE TABLE `a` (CONSTRAINT `b` FOREIGN KEY (`x`) REFERENCES `c` (`id`) ON DELETE NO ACTION ON UPDATE SET NULL)":                         "b",
		"CREATE TABLE `a` (CONSTRAINT `b` FOREIGN KEY (`x`) REFERENCES `c` (`id`) ON DELETE RESTRICT)":                                             "",
	} {
		if have := cascade([]byte(text)); have != want {
			t.Errorf("%s: %q", text, have)
		}
	}
}
