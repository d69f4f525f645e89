module deployment-specialist.test/pause

go 1.24.0
